"""The usb plugin on the emulated host's keyboard and tablet, which have the same numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.vm import qmp
from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_USB, USB
from tests.vm.lending import managed_vm

BOTH = "0627:0001"
ROUNDS = 20
HOSTDEV = """\
<hostdev mode='subsystem' type='usb'><source>\
<address bus='{}' device='{}'/></source></hostdev>"""


@dataclass(frozen=True)
class WithUsb(Domain):
    """A domain with a USB controller, which the others have not."""

    def xml(self) -> str:
        return super().xml().replace("type='usb' model='none'", "type='usb' model='qemu-xhci'")


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    direct = Direct(hooked)
    yield direct
    direct.forget()


def drivers(guest: Guest) -> dict[str, str]:
    """The drivers of the interfaces of both devices."""
    line = (
        "cd /sys/bus/usb/devices; for d in $(grep -l 0627 */idVendor); do for i in ${d%/*}:*; do"
        " echo $i $(basename $(readlink $i/driver || echo none)); done; done"
    )
    return dict(told.split() for told in guest.run(line).stdout.splitlines())


def test_off_and_on_by_number_and_by_interface(vms: Direct) -> None:
    guest = vms.guest
    before = drivers(guest)
    assert len(before) == 2
    assert set(before.values()) == {"usbhid"}
    one, _ = sorted(before)
    vms.manage(Domain("both"), f'[[usb]]\ndevice = "{BOTH}"\n')
    vms.manage(Domain("one"), f'[[usb]]\ndevice = "{one}"\n')
    vms.manage(Domain("wrong"), f'[[usb]]\ndevice = "{one}"\ndriver = "hub"\n')
    assert vms.start("one") == ""
    assert drivers(guest) == {**before, one: "none"}
    assert "VM one has it" in vms.start("both")
    vms.stop("one")
    assert vms.start("both") == ""
    assert set(drivers(guest).values()) == {"none"}
    vms.stop("both")
    assert "cannot bind" in vms.start("wrong")
    assert drivers(guest) == before


@pytest.mark.matrix_only
def test_a_port_by_what_udev_calls_it(vms: Direct) -> None:
    guest = vms.guest
    before = drivers(guest)
    one, _ = sorted(before)
    folder = f"/sys/bus/usb/devices/{one.partition(':')[0]}"
    told = guest.run(f"udevadm info --query=property {folder}").stdout
    place = re.search("^ID_PATH=(.*)$", told, re.MULTILINE)
    assert place
    vms.manage(Domain("place"), f'[[usb]]\ndevice = "{place[1]}"\n')
    assert vms.start("place") == ""
    assert drivers(guest) == {**before, one: "none"}
    vms.stop("place")
    assert drivers(guest) == before


@pytest.mark.matrix_only
def test_plugged_in_again_on_another_bus(vms: Direct) -> None:
    """The controller goes, and comes back with the numbers of another one's buses."""
    guest = vms.guest
    before = drivers(guest)
    vms.manage(Domain("both"), f'[[usb]]\ndevice = "{BOTH}"\n')
    assert vms.start("both") == ""
    folder = "/sys/bus/pci/drivers/xhci_hcd"
    order = " && ".join(
        f"echo {address} > {folder}/{verb}"
        for verb, address in (
            *(("unbind", USB), ("unbind", GPU_USB)),
            *(("bind", USB), ("bind", GPU_USB)),
        )
    )
    guest.run(f"{order} && udevadm settle")
    guest.wait("test $(cat /sys/bus/usb/drivers/usbhid/*/../idVendor | grep -c 0627) = 2")
    moved = drivers(guest)
    assert len(moved) == 2
    assert not moved.keys() & before.keys()
    for interface in moved:
        guest.run(f"echo {interface} > /sys/bus/usb/drivers/usbhid/unbind")
    vms.stop("both")
    assert drivers(guest) == dict.fromkeys(moved, "usbhid")


@pytest.mark.every_release
def test_a_device_that_the_domain_is_given(hooked: Guest) -> None:
    """QEMU opens it, and is killed; the host's driver is back."""
    before = drivers(hooked)
    interface, _ = sorted(before)
    folder = f"/sys/bus/usb/devices/{interface.partition(':')[0]}"
    numbers = hooked.run(f"cat {folder}/busnum {folder}/devnum").stdout.split()
    domain = WithUsb("typing", extra_devices=HOSTDEV.format(*numbers))
    with managed_vm(hooked, domain, "[[usb]]\n"):
        hooked.start(domain.name)
        hooked.wait(f"test $(basename $(readlink {folder}:1.0/driver || echo none)) != usbhid")
        assert set(drivers(hooked)) == set(before)
        hooked.destroy(domain.name)
        assert drivers(hooked) == before


BY_IDS = """\
<hostdev mode='subsystem' type='usb'><source>\
<vendor id='0x056a'/><product id='0x0000'/></source></hostdev>"""
IN_THE_VM = (
    "folder=$(dirname $(grep -l 056a /sys/bus/usb/devices/*/idVendor)) &&"
    " node=$(printf /dev/bus/usb/%03d/%03d $(cat $folder/busnum) $(cat $folder/devnum)) &&"
    ' ls -l /proc/$(cat /run/libvirt/qemu/follows.pid)/fd | grep -q " -> $node"'
)


def plug(guest: Guest) -> None:
    device = {"driver": "usb-wacom-tablet", "id": "followed", "bus": "usb.0", "port": "3"}
    qmp.ask(guest.machine.folder, "device_add", **device)


def unplug(guest: Guest) -> None:
    qmp.ask(guest.machine.folder, "device_del", id="followed")
    guest.wait("! grep -q 056a /sys/bus/usb/devices/*/idVendor")


@pytest.mark.matrix_only
def test_a_device_that_follows(hooked: Guest) -> None:
    """Unplugged and plugged in, at once, and when its controller is bound anew, whose devices
    then have their old numbers."""
    domain = WithUsb("follows", extra_devices=BY_IDS)
    plug(hooked)
    try:
        hooked.wait("grep -q 056a /sys/bus/usb/devices/*/idVendor")
        with managed_vm(hooked, domain, "[[usb]]\nfollow = true\n"):
            hooked.start(domain.name)
            hooked.wait(IN_THE_VM)
            hooked.wait("systemctl is-active 'vfio-hooks-usb-*'")
            defined = hooked.virsh("dumpxml", "--inactive", domain.name).stdout
            for _ in range(ROUNDS):
                unplug(hooked)
                plug(hooked)
                hooked.wait(IN_THE_VM)
            hooked.run(f"cd /sys/bus/pci/drivers/xhci_hcd && echo {USB} > unbind")
            hooked.run(f"echo {USB} > /sys/bus/pci/drivers/xhci_hcd/bind")
            hooked.wait(IN_THE_VM)
            assert hooked.virsh("dumpxml", domain.name).stdout.count("<hostdev ") == 1
            assert hooked.virsh("dumpxml", "--inactive", domain.name).stdout == defined
            assert "cannot be given" not in hooked.log()
            hooked.destroy(domain.name)
            hooked.wait("! systemctl list-units --plain --no-legend 'vfio-hooks-usb*' | grep -q .")
            hooked.wait("! ls /run/vfio-hooks/*.journal")
    finally:
        unplug(hooked)
