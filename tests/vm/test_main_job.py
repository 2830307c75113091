"""The main job for real: `virsh start` lends the devices, `virsh destroy` gives them back.

After each test the host is compared with what it was before, by a fixture for all of them.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import DRIVERS, GPU, GPU_AUDIO, GPU_GROUP, NIC, NVME, SRIOV_PF

HOOKS = "/etc/libvirt/hooks/qemu.d"
JOURNALS = "/run/vfio-hooks"
# Bound after the functions before it, then refused by the kernel.
REFUSED = """
from vfio_hooks.knobs import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

def plan(event, domain, options, host):
    if event.op == "prepare":
        yield Step("late", File("/proc/sys/vm/swappiness"), Override("99999"))
"""


def given(*addresses: str, managed: bool = True) -> tuple[HostDevice, ...]:
    return tuple(HostDevice(address, managed) for address in addresses)


@contextlib.contextmanager
def managed_vm(
    guest: Guest, domain: Domain, toml: str = "[pci]\n", **files: str
) -> Iterator[Domain]:
    """A domain that vfio-hooks looks after, gone again afterwards."""
    folder = f"{HOOKS}/{domain.name}"
    guest.put(f"{folder}/vm.toml", toml)
    for name, text in files.items():
        guest.put(f"{folder}/{name}.py", text)
    guest.define(domain)
    try:
        yield domain
    finally:
        guest.remove(domain.name)
        guest.run(f"rm -rf {shlex.quote(folder)}")


def drivers(guest: Guest, *addresses: str) -> dict[str, str]:
    script = "; ".join(
        f"basename $(readlink /sys/bus/pci/devices/{address}/driver || echo none)"
        for address in addresses
    )
    return dict(zip(addresses, guest.run(script).stdout.split(), strict=True))


def lent(*addresses: str) -> dict[str, str]:
    return dict.fromkeys(addresses, "vfio-pci")


def at_home(*addresses: str) -> dict[str, str]:
    return {address: DRIVERS[address] for address in addresses}


@contextlib.contextmanager
def held_open(guest: Guest, node: str, options: str = "") -> Iterator[None]:
    """Somebody has a device node open until the block ends."""
    guest.run(
        f"systemd-run --quiet --collect --unit=holder {options} sh -c 'exec sleep infinity <{node}'"
    )
    guest.wait(f"fuser --silent {node}")
    try:
        yield
    finally:
        guest.run("systemctl stop holder", check=False)


@pytest.fixture
def vf(hooked: Guest) -> Iterator[str]:
    """A VF of the SR-IOV card, on its host driver."""
    folder = f"/sys/bus/pci/devices/{SRIOV_PF}"
    hooked.run(f"echo 1 > {folder}/sriov_numvfs; udevadm settle")
    address = hooked.run(f"basename $(readlink {folder}/virtfn0)").stdout.strip()
    hooked.wait(f"test -e /sys/bus/pci/devices/{address}/driver")
    yield address
    hooked.run(f"echo 0 > {folder}/sriov_numvfs; udevadm settle")


@pytest.mark.parametrize("managed", [True, False], ids=["managed", "unmanaged"])
def test_a_gpu_and_a_vf(hooked: Guest, vf: str, managed: bool) -> None:
    before = drivers(hooked, vf)
    domain = Domain("gaming", given(*GPU_GROUP, vf, managed=managed))
    with managed_vm(hooked, domain):
        hooked.start(domain.name)
        assert drivers(hooked, *GPU_GROUP, vf) == lent(*GPU_GROUP, vf)
        status = hooked.run("vfio-hooks status").stdout
        assert all(address in status for address in (*GPU_GROUP, vf))
        hooked.destroy(domain.name)
        assert drivers(hooked, *GPU_GROUP, vf) == {**at_home(*GPU_GROUP), **before}
        assert "nothing is changed" in hooked.run("vfio-hooks status").stdout


def test_two_vms_at_the_same_moment(hooked: Guest) -> None:
    one = Domain("one", given(NIC, managed=False))
    two = Domain("two", given(NVME[1]))
    with managed_vm(hooked, one), managed_vm(hooked, two), ThreadPoolExecutor() as pool:
        list(pool.map(hooked.start, ("one", "two")))
        assert drivers(hooked, NIC, NVME[1]) == lent(NIC, NVME[1])
        list(pool.map(hooked.destroy, ("one", "two")))
        assert drivers(hooked, NIC, NVME[1]) == at_home(NIC, NVME[1])


def test_a_prepare_that_fails_half_way(hooked: Guest) -> None:
    domain = Domain("gaming", given(NIC, managed=False))
    with managed_vm(hooked, domain, late=REFUSED):
        failed = hooked.start(domain.name, check=False)
        assert failed.returncode == 1
        assert "/proc/sys/vm/swappiness: cannot write '99999': Invalid argument" in failed.stderr
        told = failed.stderr.partition("unexpected exit status 1: ")[2].strip()
        assert told.count("\n") == 0
        assert drivers(hooked, NIC) == at_home(NIC)
        log = hooked.run("journalctl -t vfio-hooks --boot -o cat").stdout
        assert f"{NIC}/driver: e1000e → vfio-pci (override vfio-pci)" in log
        assert f"{NIC}/driver: vfio-pci (override vfio-pci) → e1000e" in log


def waiting_hook(guest: Guest, domain: Domain) -> None:
    """Start a domain whose second function is held open, and return when the hook waits."""
    start = f"virsh start {domain.name} 2>/run/said"
    guest.run(f"systemd-run --quiet --collect --unit=starter sh -c '{start}'")
    guest.wait(f"test $(readlink /sys/bus/pci/devices/{NIC}/driver | xargs basename) = vfio-pci")


def test_the_hook_killed_half_way(hooked: Guest) -> None:
    domain = Domain("gaming", given(NIC, *GPU_GROUP, managed=False))
    with (
        managed_vm(hooked, domain, "[pci]\ntimeout = 300\n"),
        held_open(hooked, "/dev/snd/controlC0"),
    ):
        waiting_hook(hooked, domain)
        hooked.run("pkill --signal KILL --full '^/usr/bin/python3 -IS /etc/libvirt/hooks/qemu'")
        hooked.wait("! systemctl is-active starter", 60)
        assert "unexpected fatal signal 9" in hooked.read("/run/said")
        assert drivers(hooked, NIC, GPU) == at_home(NIC, GPU)


@pytest.mark.parametrize("then", ["undo", "start"])
def test_libvirtd_killed_during_prepare(hooked: Guest, then: str) -> None:
    """Nobody tells the hook that its VM never came to be; it does its work and is gone."""
    domain = Domain("gaming", given(NIC, *GPU_GROUP, managed=False))
    with managed_vm(hooked, domain, "[pci]\ntimeout = 300\n"):
        with held_open(hooked, "/dev/snd/controlC0"):
            waiting_hook(hooked, domain)
            hooked.run("systemctl kill --signal=KILL --kill-whom=main libvirtd")
        hooked.wait("! pgrep --full '^/usr/bin/python3 -IS /etc/libvirt/hooks/qemu'", 60)
        hooked.wait("virsh list", 60)
        assert drivers(hooked, NIC, GPU_AUDIO) == lent(NIC, GPU_AUDIO)
        if then == "start":
            hooked.start(domain.name)
            hooked.destroy(domain.name)
        else:
            hooked.run("vfio-hooks undo gaming")
        assert drivers(hooked, NIC, *GPU_GROUP) == at_home(NIC, *GPU_GROUP)
        hooked.run(f"test -z \"$(find {JOURNALS} -name '*.journal')\"")


def test_a_sound_card_that_does_not_let_go(hooked: Guest) -> None:
    """Named before libvirt, which would wait for it for ever, is let near it."""
    domain = Domain("gaming", given(*GPU_GROUP, managed=True))
    sound = "/dev/snd/controlC0"
    with managed_vm(hooked, domain, "[pci]\ntimeout = 3\n"), held_open(hooked, sound):
        failed = hooked.start(domain.name, check=False)
        assert f"{GPU_AUDIO}: still in use after 3 s: sleep (pid " in failed.stderr
        assert f"has {sound} open" in failed.stderr


@pytest.mark.parametrize("managed", [True, False], ids=["managed", "unmanaged"])
def test_a_sound_card_that_is_taken(hooked: Guest, managed: bool) -> None:
    """Left to a child in the kernel, marked, and put right as soon as it is free."""
    domain = Domain("gaming", given(*GPU_GROUP, managed=managed))
    with managed_vm(hooked, domain, '[pci]\ntimeout = 3\nin_use = "take"\n'):
        with held_open(hooked, "/dev/snd/controlC0"):
            failed = hooked.start(domain.name, check=False)
            assert f"{GPU_AUDIO}: snd_hda_intel did not let go within 3 s: sleep" in failed.stderr
            again = hooked.start(domain.name, check=False)
            assert f"{GPU_AUDIO}: its driver has not let go yet (pid " in again.stderr
            assert drivers(hooked, GPU) == at_home(GPU)
        hooked.wait("! pgrep --exact 'vh 00000400.1'", 60)
        hooked.run("vfio-hooks undo gaming")
        assert drivers(hooked, *GPU_GROUP) == at_home(*GPU_GROUP)


def test_a_program_with_an_apparmor_profile_of_its_own(hooked: Guest) -> None:
    """Named, though libvirtd's profile does not let the hook look at it; and without a refusal,
    which `host_unchanged` would tell of."""
    profile = "profile holder flags=(attach_disconnected) { /** rwmix, / r, network, signal, }\n"
    hooked.put("/run/holder.profile", profile)
    hooked.run("apparmor_parser --replace --skip-cache /run/holder.profile")
    domain = Domain("gaming", given(*GPU_GROUP, managed=True))
    sound, confined = "/dev/snd/controlC0", "--property=AppArmorProfile=holder"
    with managed_vm(hooked, domain, "[pci]\ntimeout = 3\n"), held_open(hooked, sound, confined):
        label = hooked.run("cat /proc/$(pgrep --exact sleep)/attr/current").stdout
        failed = hooked.start(domain.name, check=False)
    hooked.run("apparmor_parser --remove /run/holder.profile; rm /run/holder.profile")
    assert label == "holder (enforce)\n"
    assert f"{GPU_AUDIO}: still in use after 3 s: sleep (pid " in failed.stderr


def test_what_the_host_would_lose(hooked: Guest) -> None:
    """Swap space and the route out: told before anything is touched."""
    disks = hooked.run(f"ls /sys/bus/pci/devices/{NVME[0]}/nvme/*/").stdout.split()
    (disk,) = (name for name in disks if name.startswith("nvme") and name.endswith("n1"))
    link = hooked.run(f"ls /sys/bus/pci/devices/{NIC}/net").stdout.strip()
    domain = Domain("gaming", given(NVME[0], NIC, managed=False))
    with managed_vm(hooked, domain):
        hooked.run(f"mkswap /dev/{disk} && swapon /dev/{disk}")
        failed = hooked.start(domain.name, check=False)
        hooked.run(f"swapoff /dev/{disk}")
        lost = f"{NVME[0]}: the host would lose what it needs: {disk} is swap space"
        assert lost in failed.stderr
        hooked.run(
            f"ip addr add 192.0.2.2/24 dev {link} && ip link set {link} up"
            f" && ip route add default via 192.0.2.1 dev {link} metric 1 onlink"
        )
        failed = hooked.start(domain.name, check=False)
        hooked.run(f"ip addr flush dev {link}; ip link set {link} down")
        assert f"the IPv4 default route goes through {link}" in failed.stderr
        assert drivers(hooked, NIC, NVME[0]) == at_home(NIC, NVME[0])


def test_a_driver_that_does_not_take_its_device_again(hooked: Guest) -> None:
    """Told, after which the other device is back all the same; put right when the driver is."""
    domain = Domain("gaming", given(NIC, NVME[1], managed=False))
    refusing = "/etc/modprobe.d/refusing.conf"
    with managed_vm(hooked, domain, "[pci]\ntimeout = 2\n"):
        hooked.start(domain.name)
        hooked.run(f"rmmod e1000e; echo 'install e1000e /bin/false' > {refusing}")
        hooked.destroy(domain.name)
        assert drivers(hooked, NVME[1]) == at_home(NVME[1])
        assert drivers(hooked, NIC) != at_home(NIC)
        log = hooked.run("journalctl -t vfio-hooks --boot -o cat").stdout
        told = [line for line in log.splitlines() if NIC in line][-1]
        print(told)
        status = hooked.run("vfio-hooks status gaming").stdout
        assert NIC in status
        hooked.run(f"rm {refusing}")
        print(hooked.run("vfio-hooks undo gaming").stdout)
        assert drivers(hooked, NIC) == at_home(NIC)
