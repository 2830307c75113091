"""Devices that somebody uses: told, waited for, and never hung upon."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.hosttree import add_pci, domain_xml, gpu_host
from tests.sealed import CHECKOUT, Result, Sealed, can_seal
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.in_use import driver_users, stuck_writer, writer_name
from vfio_hooks.host.losses import losses
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.wait import until

NIC, DISK, SOUND = "0000:05:00.0", "0000:06:00.0", "0000:07:00.0"
# Not shared with the other tests: its stuck writer is seen by all that run beside this one.
STUCK = "0000:0a:00.0"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a writer is root's")
# One at a time: each has /dev/full open, and would meet the others' programs.
pytestmark = [
    pytest.mark.real_processes,
    pytest.mark.xdist_group("in use"),
]
needs_seal = pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")


def add_device(root: Path, address: str, name: str, subsystem: str, number: str) -> Path:
    """A class device below a function, as the kernel shows it."""
    folder = root / "sys/bus/pci/devices" / address / name
    folder.mkdir(parents=True)
    (folder / "subsystem").symlink_to(f"../../../../class/{subsystem}")
    (folder / "dev").write_text(number + "\n")
    (folder / "uevent").write_text(f"MAJOR=1\nDEVNAME={name.rpartition('/')[2]}\n")
    return folder


def add_block(folder: Path, number: str) -> None:
    folder.mkdir(parents=True)
    (folder / "subsystem").symlink_to("/sys/class/block")
    (folder / "dev").write_text(number + "\n")


def proc(root: Path, name: str, text: str) -> None:
    file = root / "proc" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    gpu_host(tmp_path)
    add_pci(tmp_path, DISK, "nvme", "9", "0x010802")
    add_device(tmp_path, DISK, "nvme/nvme0/nvme0n1", "block", "259:0")
    part = add_device(tmp_path, DISK, "nvme/nvme0/nvme0n1/nvme0n1p2", "block", "259:2")
    (part / "holders/dm-0").mkdir(parents=True)
    add_device(tmp_path, NIC, "net/eth0", "net", "")
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    return tmp_path


DEFAULT = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
LOCAL = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
TCP = "  sl  local_address rem_address   st\n   0: {}:0016 {}:D431 {}\n"
MAPPED = "0000000000000000FFFF0000" + "0601A8C0"


def test_storage_that_would_be_lost(tree: Path) -> None:
    proc(tree, "self/mountinfo", "30 1 259:0 / /home rw - ext4 /dev/x rw\n")
    proc(tree, "swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p2 partition 1 0 -2\n")
    (tree / "sys/class/block/dm-0/dm").mkdir(parents=True)
    (tree / "sys/class/block/dm-0/dm/name").write_text("vg-root\n")
    assert sorted(losses(Host(str(tree)), DISK)) == [
        "/home is mounted from nvme0n1",
        "nvme0n1p2 is part of vg-root (dm-0)",
        "nvme0n1p2 is swap space",
    ]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\r", "\x0b"])
def test_a_mount_point_has_the_name_that_its_user_gave_it(tree: Path, end: str) -> None:
    """The kernel escapes blanks, tabs, line feeds and backslashes, and nothing else."""
    theirs = f"29 1 0:50 / /home/u/a{end}b{end}c rw - fuse.a a rw\n"
    proc(tree, "self/mountinfo", f"{theirs}30 1 259:0 / /home rw - ext4 /dev/x rw\n")
    assert "/home is mounted from nvme0n1" in losses(Host(str(tree)), DISK)


def test_btrfs_shows_a_number_of_its_own(tree: Path) -> None:
    proc(tree, "self/mountinfo", "30 1 0:31 /@ /data rw shared:1 - btrfs /dev/nvme0n1 rw\n")
    assert "/data is mounted from nvme0n1" in losses(Host(str(tree)), DISK)


@pytest.mark.parametrize(("ways", "is_lost"), [(("nvme0",), True), (("nvme0", "nvme1"), False)])
def test_namespaces_that_are_at_their_subsystem(
    tmp_path: Path, ways: tuple[str, ...], is_lost: bool
) -> None:
    """With native multipath: below the function is only a device that nobody can open."""
    gpu_host(tmp_path)
    add_pci(tmp_path, DISK, "nvme", "9", "0x010802")
    add_device(tmp_path, DISK, "nvme/nvme0", "nvme", "241:0")
    hidden = tmp_path / "sys/bus/pci/devices" / DISK / "nvme/nvme0/nvme0c0n1"
    hidden.mkdir()
    (hidden / "subsystem").symlink_to("../../../../../../../class/block")
    add_block(tmp_path / "sys/class/nvme-subsystem/nvme-subsys1/nvme1n1/nvme1n1p1", "259:9")
    place = tmp_path / "sys/class/nvme-subsystem/nvme-subsys0"
    add_block(place / "nvme0n1", "259:0")
    add_block(place / "nvme0n1/nvme0n1p2", "259:2")
    for way in ways:
        (place / way).symlink_to(f"../../../devices/{way}")
    proc(tmp_path, "self/mountinfo", "30 1 259:2 / / rw - ext4 /dev/x rw\n")
    assert losses(Host(str(tmp_path)), DISK) == ["/ is mounted from nvme0n1p2"] * is_lost


@pytest.mark.parametrize(
    ("routes", "tcp", "lost"),
    [
        (DEFAULT + LOCAL, "", ["the IPv4 default route goes through eth0"]),
        (LOCAL, "", []),
        (
            LOCAL,
            TCP.format("0501A8C0", "0601A8C0", "01"),
            ["an ssh connection comes in through eth0"],
        ),
        (LOCAL, TCP.format("0501A8C0", "0601A8C0", "0A"), []),
        (LOCAL, TCP.format("0501A8C0", "0602A8C0", "01"), []),
        (LOCAL, TCP.format(MAPPED, MAPPED, "01"), ["an ssh connection comes in through eth0"]),
        (DEFAULT.replace("eth0", "eth1"), "", []),
    ],
)
def test_network_that_would_be_lost(tree: Path, routes: str, tcp: str, lost: list[str]) -> None:
    proc(tree, "net/route", HEAD + routes)
    proc(tree, "net/tcp6" if MAPPED in tcp else "net/tcp", tcp)
    assert losses(Host(str(tree)), NIC) == lost


@pytest.mark.parametrize(
    ("file", "text", "is_ssh"),
    [
        ("sshd_config", "", False),
        ("sshd_config", "#Port 2222\n", False),
        ("sshd_config", "AddressFamily any\nport 2222\n", True),
        ("sshd_config.d/own.conf", "Port=2222\n", True),
        ("sshd_config.d/own.conf.old", "Port 2222\n", False),
    ],
)
def test_an_ssh_server_on_another_port(tree: Path, file: str, text: str, is_ssh: bool) -> None:
    proc(tree, "net/route", HEAD + LOCAL)
    proc(tree, "net/tcp", TCP.format("0501A8C0", "0601A8C0", "01").replace(":0016", ":08AE"))
    (tree / "etc/ssh/sshd_config.d").mkdir(parents=True)
    (tree / "etc/ssh" / file).write_text(text)
    assert bool(losses(Host(str(tree)), NIC)) == is_ssh


@pytest.mark.parametrize("uppers", [("br0",), ("eth0.100",), ("bond0", "bond0.7", "macvtap0")])
def test_an_interface_carries_for_those_above_it(tree: Path, uppers: tuple[str, ...]) -> None:
    lower = "eth0"
    for upper in uppers:
        (tree / f"sys/class/net/{lower}/upper_{upper}").symlink_to(f"../{upper}")
        (tree / f"sys/class/net/{upper}").mkdir()
        (tree / f"sys/class/net/{upper}/lower_{lower}").symlink_to(f"../{lower}")
        lower = upper
    proc(tree, "net/route", HEAD + DEFAULT.replace("eth0", lower))
    assert losses(Host(str(tree)), NIC) == [f"the IPv4 default route goes through {lower}"]


@needs_root
def test_a_write_that_never_returns_is_left_behind(tmp_path: Path) -> None:
    pipe = tmp_path / "unbind"
    os.mkfifo(pipe)
    host = WritableHost()
    with pytest.raises(TimeoutError):
        host.write_aside(str(pipe), "x", 0.2, writer_name("test:01.0"))
    # It names itself when it first runs. A host looks only once, so these are others.
    assert until(lambda: stuck_writer(Host(), "test:01.0") is not None, 60)
    writer = stuck_writer(host, "test:01.0")
    assert writer is not None
    # The kernel takes the device's lock for this one, too.
    with pytest.raises(HookError, match=r"kernel for test:01\.0; .* undo --all"):
        LentPower("/sys/bus/pci/devices/test:01.0/power/control").write(host, "auto")
    assert pipe.read_text() == "x"
    os.waitpid(writer, 0)
    assert stuck_writer(host, "test:01.0") is None


FORGED = "import time; open('/proc/self/comm', 'w').write('{}'); print(flush=True); time.sleep(60)"


@needs_root
@pytest.mark.parametrize("forger", ["a user's", "a program by another name"])
def test_a_process_that_only_has_a_writer_s_name(tmp_path: Path, forger: str) -> None:
    """What a user could start to keep VMs from starting; the second one with sudo."""
    name = writer_name("test:02.0")
    (tmp_path / name).symlink_to("/bin/cat")
    argv = [str(tmp_path / name), "/dev/zero"]
    if forger == "a user's":
        argv = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c"]
        argv.append(FORGED.format(name))
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read(1)
        assert Host().read(f"/proc/{process.pid}/comm") == name
        assert stuck_writer(Host(), "test:02.0") is None
        process.kill()


def test_functions_behind_vmd_have_names_of_their_own() -> None:
    names = [writer_name(f"10000:e1:00.{number}") for number in range(8)]
    assert len(set(names)) == 8
    assert all(len(name) <= 15 for name in names)


def test_an_error_of_a_write_aside_keeps_its_number(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WritableHost().write_aside(str(tmp_path / "none"), "x", 30, "vh")


def held_host(
    memory: Path, address: str = SOUND, device: str = "sound/card0/controlC0", kind: str = "sound"
) -> Sealed:
    """A sound card that this test process has open, by the number of /dev/full."""
    gpu_host(memory)
    add_pci(memory, address, "snd_hda_intel", "9")
    add_device(memory, address, device, kind, "1:7")
    return Sealed(memory)


class Devices(Host):
    """This machine with one more module, whose devices are those of mem: /dev/full and the like.
    This process has the given AppArmor profile; others have one of their own."""

    def __init__(self, profile: str = "unconfined") -> None:
        super().__init__()
        self.profile = profile

    def maybe(self, name: str) -> str | None:
        if name.endswith("/attr/current"):
            return self.profile if "/self/" in name else "steam (unconfined)"
        return "Character devices:\n  1 spare\n" if name == "/proc/devices" else super().maybe(name)


@pytest.mark.parametrize("profile", ["unconfined", "libvirtd (enforce)"])
def test_a_program_with_a_profile_of_its_own_is_seen(profile: str) -> None:
    """From a hook that is confined by a child that is not: all others are hidden here."""
    with open("/dev/full", "wb"):
        found = driver_users(Devices(profile), "spare")
    assert os.getpid() in [holder.pid for holder in found]


def test_only_devices_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examining a file on a server that does not answer would never end."""
    looked: list[str] = []
    look = os.stat

    def watched(path: str) -> os.stat_result:
        looked.append(os.readlink(path) if "/fd/" in path else path)
        return look(path)

    monkeypatch.setattr(os, "stat", watched)
    with open("/dev/full", "wb"), open(tmp_path / "dev", "w"):
        found = driver_users(Devices(), "spare")
    monkeypatch.undo()
    assert os.getpid() in [holder.pid for holder in found]
    assert looked
    assert all(path.startswith("/dev/") for path in looked)


def start(sealed: Sealed, toml: str, managed: str = "no", address: str = SOUND) -> Result:
    sealed.manage("win11", toml)
    return sealed.hook("win11", "prepare", domain_xml(functions=(address,), managed=managed))


@needs_seal
@pytest.mark.parametrize("managed", ["yes", "no"])
@pytest.mark.parametrize(
    ("device", "kind"), [("sound/card0/controlC0", "sound"), ("i2c-7/i2c-dev/i2c-7", "i2c-dev")]
)
def test_a_program_that_has_the_device_open_is_named(
    memory: Path, managed: str, device: str, kind: str
) -> None:
    sealed = held_host(memory, SOUND, device, kind)
    with open("/dev/full", "wb"):
        result = start(sealed, "[pci]\ntimeout = 0.2\n", managed)
    assert result.code == 1
    assert f"(pid {os.getpid()}) has /dev/{device.rpartition('/')[2]} open" in result.stderr
    assert not sealed.journals()


@needs_seal
def test_the_plan_names_who_would_be_waited_for(memory: Path) -> None:
    sealed = held_host(memory)
    sealed.manage("win11", "[pci]\ntimeout = 7\n")
    with open("/dev/full", "wb"):
        plan = f"cd {CHECKOUT}; exec /usr/bin/python3 -m vfio_hooks plan --xml -"
        result = sealed.run("sh", "-c", plan, stdin=domain_xml(functions=(SOUND,)))
    told = f"note: pci: {SOUND} is in use now, and the start would wait for up to 7 s: python"
    assert told in result.stdout.decode()


@needs_seal
def test_a_program_that_closes_it_in_time_is_waited_for(memory: Path) -> None:
    sealed = held_host(memory)
    with subprocess.Popen(["sh", "-c", "sleep 2"], stdout=open("/dev/full", "wb")):
        assert start(sealed, "[pci]\ntimeout = 60\n", "yes").code == 0


@needs_seal
def test_what_another_guest_runs_with_is_not_taken_from_it(memory: Path) -> None:
    """Unplugged from the VM that ends, and plugged into another: libvirt calls no hook for that."""
    sealed = held_host(memory)
    assert start(sealed, managed="yes", toml="[pci]\n").code == 0
    driver = memory / f"sys/bus/pci/devices/{SOUND}/driver"
    driver.unlink()
    driver.symlink_to("../../../../bus/pci/drivers/vfio-pci")
    node = memory / "sys/class/vfio/9/dev"
    node.parent.mkdir(parents=True)
    node.write_text("1:7\n")
    with open("/dev/full", "wb"):
        sealed.hook("win11", "release", domain_xml(functions=(SOUND,), managed="yes"))
    assert driver.readlink().name == "vfio-pci"
    assert sealed.journals()
    (told,) = (line for line in sealed.logged() if "a running guest has it" in line)
    assert f"{SOUND}: a running guest has it: python" in told
    assert "has /dev/vfio/9 open; stop that guest, then run vfio-hooks undo" in told


@needs_seal
def test_a_driver_that_does_not_let_go_marks_the_device(memory: Path) -> None:
    sealed = held_host(memory, STUCK)
    unbind = memory / "sys/bus/pci/drivers/snd_hda_intel/unbind"
    unbind.unlink()
    os.mkfifo(unbind)
    result = start(sealed, '[pci]\ntimeout = 0.2\nin_use = "take"\n', address=STUCK)
    assert result.code == 1
    assert "snd_hda_intel did not let go within 0.2 s" in result.stderr
    # The child that writes to it names itself when it first runs.
    assert until(lambda: stuck_writer(Host(), STUCK) is not None, 60)
    again = start(sealed, '[pci]\ntimeout = 0.2\nin_use = "take"\n', address=STUCK)
    assert again.code == 1
    assert "its driver has not let go of it yet (pid " in again.stderr
    assert sealed.hook("win11", "release", domain_xml(functions=(STUCK,))).code == 0
    assert sealed.journals()
    assert unbind.read_text() == STUCK
    assert until(lambda: stuck_writer(Host(), STUCK) is None, 60)
    assert sealed.hook("win11", "release", domain_xml(functions=(STUCK,))).code == 0
    assert not sealed.journals()
