"""Devices that somebody uses: named, waited for, taken, and never taken from a running guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm import firmware
from tests.vm.direct import Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_AUDIO, GPU_GROUP, NIC, NVME
from tests.vm.lending import (
    at_home,
    drivers,
    given,
    held_open,
    lent,
    managed_vm,
    undone_while_it_runs,
)


@pytest.mark.matrix_only
def test_a_sound_card_that_does_not_let_go(hooked: Guest) -> None:
    """Named before libvirt, which would wait for it for ever, is let near it."""
    domain = Domain("gaming", given(*GPU_GROUP, managed=True))
    sound = "/dev/snd/controlC0"
    with managed_vm(hooked, domain, "[pci]\ntimeout = 3\n"), held_open(hooked, sound):
        failed = hooked.start(domain.name, check=False)
        assert f"{GPU_AUDIO}: still in use after 3 s: sleep (pid " in failed.stderr
        assert f"has {sound} open" in failed.stderr


def take_the_sound_card(hooked: Guest, managed: bool) -> None:
    """Left to a child in the kernel, marked, and put right as soon as it is free."""
    domain = Domain("gaming", given(*GPU_GROUP, managed=managed))
    with managed_vm(hooked, domain, '[pci]\ntimeout = 10\nin_use = "take"\n'):
        with held_open(hooked, "/dev/snd/controlC0"):
            failed = hooked.start(domain.name, check=False)
            assert f"{GPU_AUDIO}: snd_hda_intel did not let go within 10 s: sleep" in failed.stderr
            again = hooked.start(domain.name, check=False)
            assert f"{GPU_AUDIO}: its driver has not let go of it yet (pid " in again.stderr
            assert drivers(hooked, GPU) == at_home(GPU)
        hooked.wait("! pgrep --exact 'vh 00000400.1'")
        hooked.run("vfio-hooks undo gaming")
        assert drivers(hooked, *GPU_GROUP) == at_home(*GPU_GROUP)


def test_a_sound_card_that_is_taken(hooked: Guest) -> None:
    take_the_sound_card(hooked, managed=True)


@pytest.mark.matrix_only
def test_an_unmanaged_sound_card_that_is_taken(hooked: Guest) -> None:
    take_the_sound_card(hooked, managed=False)


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


@pytest.mark.matrix_only
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


@pytest.mark.matrix_only
def test_a_driver_that_does_not_take_its_device_again(hooked: Guest) -> None:
    """Told, after which the other device is back all the same; put right when the driver is."""
    domain = Domain("gaming", given(NIC, NVME[1], managed=False))
    refusing = "/etc/modprobe.d/refusing.conf"
    with managed_vm(hooked, domain, "[pci]\ntimeout = 15\n"):
        hooked.start(domain.name)
        hooked.run(f"rmmod e1000e; echo 'install e1000e /bin/false' > {refusing}")
        hooked.destroy(domain.name)
        assert drivers(hooked, NVME[1]) == at_home(NVME[1])
        assert drivers(hooked, NIC) != at_home(NIC)
        log = hooked.log()
        told = [line for line in log.splitlines() if NIC in line][-1]
        print(told)
        status = hooked.run("vfio-hooks status gaming").stdout
        assert NIC in status
        hooked.run(f"rm {refusing}")
        print(hooked.run("vfio-hooks undo gaming").stdout)
        assert drivers(hooked, NIC) == at_home(NIC)


@pytest.mark.matrix_only
def test_a_device_that_was_detached_is_another_vm_s(hooked: Guest) -> None:
    """No hook is told that a running VM has lost it."""
    root = "<controller type='pci' index='0' model='pcie-root'/>"
    port = "<controller type='pci' index='{}' model='pcie-root-port'/>"
    ports = root + port.format(1) + port.format(2)
    first = Domain("first", given(NIC), extra_devices=ports, firmware=firmware.PATH)
    hooked.put_bytes(firmware.PATH, firmware.rom())
    hooked.put("/run/device.xml", HostDevice(NIC).xml())
    with managed_vm(hooked, first), managed_vm(hooked, Domain("second", given(NIC))):
        hooked.start("first")
        refused = hooked.start("second", check=False)
        assert f"{NIC}" in refused.stderr and "first" in refused.stderr
        hooked.virsh("detach-device", "first", "/run/device.xml", "--live")
        hooked.wait(f"test -e /sys/bus/pci/drivers/e1000e/{NIC}")
        hooked.start("second")
        hooked.destroy("first")
        assert drivers(hooked, NIC) == lent(NIC)
        hooked.destroy("second")
        assert drivers(hooked, NIC) == at_home(NIC)
    hooked.run(f"rm -f {firmware.PATH} /run/device.xml")


@pytest.fixture
def direct(hooked: Guest) -> Iterator[Direct]:
    vms = Direct(hooked)
    yield vms
    vms.forget()


def test_what_another_guest_runs_with_stays_its_own(hooked: Guest, direct: Direct) -> None:
    """The VM that had it first was never released; one that nobody looks after has it now."""
    with undone_while_it_runs(direct, Domain("other", given(NIC)), NIC):
        assert hooked.virsh("domstate", "other").stdout.strip() == "running"
