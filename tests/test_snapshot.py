"""`vfio-hooks snapshot`: a file stands for the host, and tells of no person."""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest

from tests.command import UUID as OWN
from tests.command import Command, Result
from tests.hosttree import domain_xml
from tests.shapes import SHAPES
from vfio_hooks.check.host import kernel
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.snapshot.archive import unpack
from vfio_hooks.snapshot.domain import domain_without
from vfio_hooks.snapshot.files import entries, patterns
from vfio_hooks.snapshot.private import BOOT_PARAMETERS, MODULES, Scrubber

PINS = (
    "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/></cputune>"
)
NOTED = """
  <metadata>
    <o:libosinfo xmlns:o="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <o:os id="http://microsoft.com/win/11"/><o:a>secret</o:a>
    </o:libosinfo>
  </metadata>
  <clock offset='utc'/>
"""
GPU = "0000:04:00.0"
MAC = "9c:6b:00:12:34:56"
UUID = "1f6f3d2e-1111-4222-8333-444455556666"


@pytest.fixture
def laptop(command: Command) -> Command:
    SHAPES["laptop"].write(command.host)
    for name, text in (
        (
            "proc/cmdline",
            f"BOOT_IMAGE=/vmlinuz root=UUID={UUID} ip=192.168.7.9 host=marthas-pc intel_iommu=on "
            "resume=/dev/disk/by-id/nvme-SECRET-part2 rd.iscsi.password=secret secret ro "
            "systemd.set_credential=a:secret nfsroot=fd12:3456::77:/secret kvm.ignore_msrs=0 "
            "cryptdevice=/dev/mapper/marthas--pc--vg-root root=PARTUUID=deadbe01-02 "
            "vfio-pci.ids=1002:73bf pcie_acs_override=downstream isolcpus=2-3 mitigations=off",
        ),
        ("proc/swaps", "Filename Type Size Used Priority\n/home/secret/swap file 1 0 -2"),
        ("proc/sys/kernel/hostname", "marthas-pc"),
        ("proc/interrupts", "      CPU0 CPU2\n 24:   30   10  PCI-MSI  enx9c6b00123456"),
        ("proc/irq/default_smp_affinity", "ff"),
        ("proc/irq/24/smp_affinity_list", "0-7"),
        (
            "etc/modprobe.d/vfio.conf",
            "# martha\noptions vfio-pci ids=1002:73bf disable_vga=1 # martha=1\n"
            "install nvidia /home/martha/load.sh\noptions secret password=secret max_vfs=4\n"
            "softdep amdgpu pre: vfio-pci # martha\nblacklist nouveau # martha",
        ),
        ("usr/lib/modprobe.d/old.conf", "options igb max_vfs=7\n"),
        ("etc/mkinitcpio.conf", "# martha\nMODULES=(secret vfio_pci vfio_virqfd)"),
        ("proc/sys/kernel/osrelease", "6.12.0"),
        ("sys/module/vfio_pci/parameters/ids", "1002:73bf"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_available_governors", "performance"),
        ("sys/devices/system/cpu/cpufreq/policy0/affected_cpus", "0-7"),
        ("sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us", "90"),
        ("sys/fs/cgroup/system.slice/tuned.service/cgroup.procs", "77"),
        ("run/tlp/last_pwr", "1"),
        ("proc/77/stat", f"77 (kswapd0) S 2 0 0 0 -1 {0x208040} {'0 ' * 12}770 0 0"),
        ("proc/77/status", "Name:\tkswapd0\nCpus_allowed_list:\t0-7"),
        ("proc/78/stat", f"78 (firefox) S 2 0 0 0 -1 64 {'0 ' * 12}780 0 0"),
        ("proc/78/status", "Name:\tfirefox\nCpus_allowed_list:\t0-7"),
        ("etc/libvirt/qemu/win11.xml", domain_xml(more=PINS + NOTED)),
    ):
        file = command.host / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return command


@pytest.fixture
def archive(laptop: Command, tmp_path: Path) -> str:
    path = str(tmp_path / "host.tar.xz")
    result = laptop.here("snapshot", path, "--vm", "win11")
    assert (result.code, result.err) == (0, "")
    return path


def whole(archive: str) -> str:
    with tarfile.open(archive) as tar:
        return "\n".join(
            f"{member.name} {member.linkname} {member.uname} {member.mtime}\n"
            + (file.read().decode() if (file := member.isreg() and tar.extractfile(member)) else "")
            for member in tar
        )


@pytest.mark.parametrize(
    "words",
    [
        ("topology",),
        ("topology", "win11", "--json"),
        ("iommu",),
        ("plan", "win11", "--use", "pci,irqs,governor"),
        ("plan", "win11", "--use", "pci", "--json"),
        ("check",),
        ("check", "win11"),
        ("init", "win11", "--dry-run", "--config-dir", "/nowhere"),
    ],
)
def test_a_file_stands_for_the_host(laptop: Command, archive: str, words: tuple[str, ...]) -> None:
    def run(root: str) -> Result:
        state = () if words[0] in ("topology", "init") else ("--state-dir", str(laptop.state))
        return laptop(*words, "--root", root, *state)

    live, captured = run(str(laptop.host)), run(archive)
    # The VM's UUID in the file is made from its name.
    uuid = str(uuid5(NAMESPACE_DNS, "win11"))
    expected = live.out.replace("enx9c6b00123456", "enx000000000000").replace(OWN, uuid)
    assert (captured.code, captured.out, captured.err) == (live.code, expected, live.err)
    assert live.out or live.err


@pytest.mark.parametrize(
    "name",
    [
        "sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us",
        "sys/fs/cgroup/system.slice/tuned.service",
        "run/tlp/last_pwr",
    ],
)
def test_who_governs_power_is_in_it(archive: str, name: str) -> None:
    with tarfile.open(archive) as tar:
        assert f"vfio-hooks-host/{name}" in tar.getnames()


def test_nothing_private_is_in_it(archive: str) -> None:
    text = whole(archive).replace("0 /secret/", "")
    for private in (
        MAC,
        "9c6b00123456",
        UUID,
        "192.168.7.9",
        "marthas",
        "firefox",
        "deadbe",
        "fd12",
    ):
        assert private not in text
    assert not re.search("secret(?!=removed| max_vfs)", text, re.IGNORECASE)
    for line in (
        "BOOT_IMAGE=removed root=removed ip=removed host=removed intel_iommu=on resume=removed "
        "rd.iscsi.password=removed systemd.set_credential=removed nfsroot=removed "
        "kvm.ignore_msrs=0 cryptdevice=removed root=removed vfio_pci.ids=1002:73bf "
        "pcie_acs_override=downstream isolcpus=2-3 mitigations=off",
        "removed file 1 0 -2",
        "options vfio-pci ids=1002:73bf disable_vga=1",
        "options secret max_vfs=4",
        "softdep amdgpu pre: vfio-pci",
        "blacklist nouveau",
        "options igb max_vfs=7",
        "vfio_pci vfio_virqfd",
    ):
        assert f"\n{line}\n" in text, line
    assert "kswapd0" in text


def test_the_boot_parameters_that_rules_read_are_kept() -> None:
    """Of those that are asked for by name; a rule's own list of names is asked for, too."""
    sources = "\n".join(path.read_text() for path in Path("vfio_hooks/check").rglob("*.py"))
    asked = re.findall(r'boot\.values\([\w.]+, "([^"]+)"\)', sources)
    asked += [*kernel._STATIC, "amd_iommu", "intel_iommu", "iommu"]
    assert len(asked) > 10
    assert set(asked) <= BOOT_PARAMETERS
    modules = re.findall(r'boot\.module_options\([\w.]+, "([^"]+)"\)', sources)
    assert modules
    assert all(map(MODULES.fullmatch, modules))


def test_what_the_verbs_read_is_in_it(
    laptop: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No verb reads a file of /sys or /proc that a snapshot lacks."""
    asked: set[str] = set()
    original = Host.read

    def read(self: Host, name: str) -> str:
        asked.add(name)
        return original(self, name)

    monkeypatch.setattr(Host, "read", read)
    (tmp_path / "win11.xml").write_text(domain_xml(more=PINS))
    state = "--state-dir", str(laptop.state)
    laptop.here("topology")
    laptop.here("iommu")
    laptop("check", "win11", "--root", str(laptop.host), *state)
    laptop("plan", "win11", "--root", str(laptop.host), *state, "--use", "irqs,governor,memory,pci")
    monkeypatch.undo()
    there = {entry.name for entry in entries(Host(str(laptop.host)))}
    kept = {name for name in asked if Host(str(laptop.host)).maybe(name) is not None}
    system = {name for name in kept if name.startswith(("/sys/", "/proc/"))}
    ours = {name for name in system if not re.match(r"/proc/(78/|sys/kernel/hostname)", name)}
    assert len(ours) > 50
    assert ours <= there


def test_the_soft_dependencies_that_modules_have_themselves_are_in_it(laptop: Command) -> None:
    """They count before those in modprobe.d."""
    line = "softdep xhci_pci pre: xhci-pci-renesas"
    for name, text in (
        ("proc/sys/kernel/osrelease", "6.12.0\n"),
        ("lib/modules/6.12.0/modules.softdep", f"# Soft dependencies\n{line}\n"),
    ):
        path = laptop.host / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    texts = {entry.name: entry.text for entry in entries(Host(str(laptop.host)))}
    assert texts["/lib/modules/6.12.0/modules.softdep"] == f"{line}\n"


PRIVATE = f"""\
<!-- secret-comment -->
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>win11</name>
  <uuid>{UUID}</uuid>
  <title>secret-title</title>
  <metadata><a>secret-note</a></metadata>
  <!-- secret-comment -->
  <sysinfo type='smbios'><system><entry name='serial'>secret-sysinfo</entry></system></sysinfo>
  <vcpu>2</vcpu>
  <resource><partition>/machine/secret</partition></resource>
  <os>
    <type arch='x86_64' machine='pc-q35-9.0'>hvm</type>
    <loader type='pflash'>/home/secret/OVMF_CODE.fd</loader>
    <nvram template='/secret/VARS.fd'>/secret/nvram</nvram>
    <cmdline>secret=1</cmdline>
    <boot dev='hd'/>
  </os>
  <cpu mode='host-passthrough'><model>host</model></cpu>
  <devices>
    <emulator>/home/secret/qemu</emulator>
    <disk type='file' device='disk'>
      <source file='/home/secret/disk.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <serial>secret-serial</serial>
      <product>secret</product>
    </disk>
    <disk type='network'>
      <auth username='secret-user'><secret type='ceph' uuid='{UUID}'/></auth>
      <source protocol='https' name='secret/pool' query='token=secret'>
        <host name='secret-host' port='1'/>
        <cookies><cookie name='a'>secret</cookie></cookies>
      </source>
    </disk>
    <filesystem type='mount'><binary path='/secret/virtiofsd'/>
      <source dir='/secret'/><target dir='secret-share'/></filesystem>
    <interface type='network'>
      <mac address='{MAC}'/>
      <source network='default'/>
      <target dev='tap-secret'/>
      <ip address='fd12:3456::77' prefix='64'/>
      <filterref filter='x'><parameter name='IP' value='192.168.7.9'/></filterref>
    </interface>
    <interface type='bridge'><source bridge='br-secret'/></interface>
    <graphics type='vnc' listen='192.168.7.9' passwd='secret-word'>
      <listen type='address' address='fd12::1'/></graphics>
    <audio id='1' type='pulseaudio' serverName='secret.example'/>
    <audio id='2' type='file' path='/secret/a.wav'/>
    <serial type='pty'><log file='/secret/x.log'/><target port='0'/></serial>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></source>
      <rom file='/secret/rom'/>
    </hostdev>
    <shmem name='looking-glass'><size unit='M'>32</size></shmem>
  </devices>
  <seclabel type='static' model='dac'><label>secret:kvm</label></seclabel>
  <qemu:commandline>
    <qemu:arg value='-object'/><qemu:arg value='input-linux,evdev=/secret/kbd,secret'/>
    <qemu:arg value='-smbios'/><qemu:arg value='type=1,serial=secret'/>
    <qemu:arg value='-device'/><qemu:arg value='isa-applesmc,osk=secret'/>
    <qemu:arg value='-name'/><qemu:arg value='secret,process=secret'/>
    <qemu:arg value='-object'/>
    <qemu:arg value='memory-backend-file,id=a,mem-path=/dev/kvmfr0,size=128M,share=yes'/>
    <qemu:arg value='-object'/>
    <qemu:arg value='{{"qom-type":"memory-backend-file","mem-path":"/dev/shm/b","size":9}}'/>
    <qemu:arg value='{{"driver":"usb-host","hostdevice":"/secret"}}'/>
    <qemu:env name='PULSE_COOKIE' value='secret'/>
  </qemu:commandline>
</domain>
"""


def test_what_udev_has_announced_is_in_it_without_its_records(laptop: Command) -> None:
    """They have the serial numbers of sound cards."""
    folder = laptop.host / f"sys/bus/pci/devices/{GPU}"
    for name in ("sound/card1", "drm/card0"):
        (folder / name).mkdir(parents=True)
    (folder / "drm/card0/dev").write_text("226:0\n")
    for name in ("+sound:card1", "c226:0", "c189:7"):
        record = laptop.host / "run/udev/data" / name
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("E:ID_SERIAL=secret\n")
    there = {entry.name: entry.text for entry in entries(Host(str(laptop.host)))}
    records = {name: text for name, text in there.items() if name.startswith("/run/udev")}
    assert records == {"/run/udev/data/+sound:card1": "", "/run/udev/data/c226:0": ""}
    assert f"/sys/bus/pci/devices/{GPU}/sound/card1" in there
    assert there[f"/sys/bus/pci/devices/{GPU}/drm/card0/dev"] == "226:0\n"


def test_a_domain_is_without_what_is_private(tmp_path: Path) -> None:
    text = domain_without(PRIVATE.encode(), Scrubber(Host(str(tmp_path)))).decode()
    for private in ("secret", MAC, UUID, "192.168", "fd12"):
        assert private not in text
    told, before = parse(text.encode()), parse(PRIVATE.encode())
    assert (told.name, told.vcpus, told.pci, told.shared, told.networks) == (
        *("win11", 2),
        *(before.pci, before.shared, ("default",)),
    )
    for kept in (
        *('<target dev="vda"', '<serial type="pty">', "pc-q35-9.0", ">hvm<", '<boot dev="hd"'),
        *('"isa-applesmc,osk=removed"', '"input-linux,evdev=removed,removed"', ">host<"),
        *('"type=removed,serial=removed"', '"-smbios"', '"removed,process=removed"'),
    ):
        assert kept in text, kept
    assert parse(domain_without(PRIVATE.encode(), Scrubber(Host(str(tmp_path))))).uuid == told.uuid


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "marthas-pc",
            "MARTHAS-PC marthas--pc--vg marthas-pc.example",
            "host host--vg host.example",
        ),
        ("marthas-pc.example", "marthas-pc", "host"),
        ("pc", "pc", "pc"),
        ("", "a", "a"),
    ],
)
def test_the_hosts_name_however_it_is_written(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_text(f"{name}\n")
    assert Scrubber(Host(str(tmp_path))).xml(text) == expected


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", text: str = "x"
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = len(text) if kind == tarfile.REGTYPE else 0
    return made


def made_of(path: Path, *members: tarfile.TarInfo) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(b"x" * one.size))
    return str(path)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([member("/etc/passwd")], "outside the folder"),
        ([member("a/../../b")], "outside the folder"),
        ([member("sys/x", tarfile.SYMTYPE, "/etc/passwd")], "leads out of the host"),
        ([member("sys/x", tarfile.SYMTYPE, "../../etc/passwd")], "leads out of the host"),
        (
            [
                member("a/b/l", tarfile.SYMTYPE, "../.."),
                member("sys/x", tarfile.SYMTYPE, "../a/b/l/.."),
            ],
            "leads out of the host",
        ),
        ([member("sys/x", tarfile.LNKTYPE, "/etc/passwd")], "neither a file"),
        ([member("sys/x", tarfile.CHRTYPE)], "neither a file"),
        ([member("sys/x", tarfile.FIFOTYPE)], "neither a file"),
        ([member("x", tarfile.SYMTYPE, "sys"), member("x/y")], "exists"),
    ],
)
def test_an_archive_that_does_harm_is_refused(
    tmp_path: Path, members: list[tarfile.TarInfo], problem: str
) -> None:
    folder = tmp_path / "in/here"
    folder.mkdir(parents=True)
    with pytest.raises(HookError, match=problem):
        unpack(made_of(tmp_path / "bad.tar.gz", *members), str(folder))
    assert not (tmp_path / "in/etc").exists()


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"PK" + data]
)
def test_what_is_no_archive_is_told(
    command: Command, archive: str, spoil: Callable[[bytes], bytes]
) -> None:
    path = Path(archive)
    path.write_bytes(spoil(path.read_bytes()))
    result = command("topology", "--root", archive)
    assert (result.code, result.out) == (1, "")
    assert "not a snapshot of a host" in result.err and "Error(" not in result.err


def test_no_file_is_overwritten_and_kinds_are_known(laptop: Command, archive: str) -> None:
    result = laptop.here("snapshot", archive)
    assert (result.code, "already exists" in result.err) == (1, True)
    result = laptop.here("snapshot", archive + ".zip")
    assert (result.code, "the kind of archive is unknown" in result.err) == (1, True)


def test_patterns_are_whole() -> None:
    every = list(patterns())
    assert len(every) == len(set(every)) > 130
    assert not [one for one in every if re.search(r"[{}]|//", one) or not one.startswith("/")]
    assert "/sys/devices/system/node/node[0-9]*/hugepages/*/*" in every
