"""The usb plugin: which interfaces, which drivers, and their way back."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import usb as fake
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.fakes.usb import DEVICES, RECEIVER
from tests.hosttree import domain_xml
from tests.test_sriov import uuid
from vfio_hooks.domain import Domain, parse
from vfio_hooks.domain.devices import UsbDevice
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, usb
from vfio_hooks.knobs.usb_driver import UsbDriver
from vfio_hooks.plugins.usb import Options, plan
from vfio_hooks.steps import Step

HOSTDEV = (
    """<devices><hostdev mode='subsystem' type='usb'><source{}>{}</source></hostdev></devices>"""
)


def steps(kernel: Kernel, *given: UsbDevice, **options: Any) -> list[Step]:
    domain = Domain("vm", "u", usb=given)
    return list(plan(Event("vm", "prepare"), domain, Options(**options), kernel))


def planned(kernel: Kernel, *given: UsbDevice, **options: Any) -> list[str]:
    """Steps as "1-4:1.0 no driver"."""
    return [
        f"{step.key.removeprefix(DEVICES + '/').removesuffix('/driver')} "
        f"{getattr(step.share, 'value', None)}"
        for step in steps(kernel, *given, **options)
    ]


@pytest.mark.parametrize(
    ("device", "driver", "expected"),
    [
        (RECEIVER, "none", ["1-4:1.0 no driver", "1-4:1.1 no driver", "1-4:1.2 no driver"]),
        (RECEIVER.upper(), "none", ["1-4:1.0 no driver", "1-4:1.1 no driver", "1-4:1.2 no driver"]),
        ("1-5", "usbhid", ["1-5:1.0 usbhid"]),
        ("1-4:1.1", "usb-storage", ["1-4:1.1 usb-storage"]),
    ],
)
def test_by_number_by_place_by_interface(device: str, driver: str, expected: list[str]) -> None:
    assert planned(a_host(), device=device, driver=driver) == expected


def test_all_of_a_kind() -> None:
    kernel = a_host()
    fake.plug(kernel, "3-1.2", RECEIVER)
    assert planned(kernel, device=RECEIVER)[-1] == "3-1.2:1.0 no driver"


@pytest.mark.parametrize(
    ("attributes", "inside", "expected"),
    [
        ("", "<vendor id='0x0951'/><product id='0x1666'/>", UsbDevice("0951:1666", None)),
        ("", "<address bus='1' device='3'/>", UsbDevice(None, (1, 3))),
        ("", "<address bus='1' port='4.2'/>", UsbDevice(None, None, path="1-4.2")),
        (
            " startupPolicy='optional'",
            "<vendor id='0x0951'/><product id='0x1666'/><address bus='1' device='7'/>",
            UsbDevice("0951:1666", (1, 7), optional=True),
        ),
    ],
)
def test_a_domain_s_devices(attributes: str, inside: str, expected: UsbDevice) -> None:
    xml = domain_xml(functions=(), more=HOSTDEV.format(attributes, inside))
    assert parse(xml.encode()).usb == (expected,)


def test_an_empty_table_is_for_the_domain_s_devices() -> None:
    kernel = a_host()
    assert planned(kernel, UsbDevice("0951:1666", None)) == ["1-5:1.0 no driver"]
    number = int(kernel.read(f"{DEVICES}/1-5/devnum"))
    assert planned(kernel, UsbDevice(None, (1, number))) == ["1-5:1.0 no driver"]
    assert planned(kernel, UsbDevice(None, None, path="1-5")) == ["1-5:1.0 no driver"]
    assert planned(kernel, UsbDevice("dead:beef", None, optional=True)) == []
    with pytest.raises(HookError, match="1-7, which the domain is given, is not plugged in"):
        planned(kernel, UsbDevice(None, None, path="1-7"))
    with pytest.raises(HookError, match="dead:beef, which the domain is given, is not plugged in"):
        planned(kernel, UsbDevice("dead:beef", None))
    with pytest.raises(HookError, match="is given no USB device; name one"):
        planned(kernel)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "dead:beef"}, "dead:beef is not plugged in; lsusb shows"),
        ({"device": "1-4:1.7"}, "1-4 (046d:c52b, USB Device) has no interface 1.7; there are: 1.0"),
        ({"device": "2-1"}, "is a hub"),
        ({"device": "1-4", "driver": "warp"}, "'warp' is not a USB driver of this kernel"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], words: str) -> None:
    kernel = a_host()
    kernel.files |= {
        "/proc/sys/kernel/osrelease": "6.12\n",
        "/lib/modules/6.12/modules.dep": "\n",
    }
    fake.plug(kernel, "2-1", "05e3:0610", drivers=("hub",), kind="09")
    with pytest.raises(HookError) as caught:
        planned(kernel, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("options", [{"device": "keyboard"}, {"driver": "../evil"}, {"driver": ""}])
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


@pytest.mark.parametrize("meanwhile", ["nothing", "again", "moved", "gone"])
def test_the_drivers_come_back(memory: Any, meanwhile: str) -> None:
    """Plugged in again, in the same port or another, its interfaces have their drivers."""
    kernel, log = a_host(), Lines()
    engine = Engine(kernel, StateFolder(str(memory)), log)
    wanted = [*steps(kernel, device=RECEIVER), *steps(kernel, device="1-5", driver="usbhid")]
    engine.perform("prepare", uuid(1), "vm", lambda _: wanted)
    assert kernel.link(f"{DEVICES}/1-4:1.0/driver") is None
    assert kernel.link(f"{DEVICES}/1-5:1.0/driver") == "usbhid"
    if meanwhile != "nothing":
        fake.unplug(kernel, "1-5")
        fake.unplug(kernel, "1-4")
    place = {"again": "1-4", "moved": "2-1.3"}.get(meanwhile)
    if place:
        fake.plug(kernel, place, RECEIVER, drivers=("usbhid",) * 3)
        for number in range(3):
            del kernel.links[f"{DEVICES}/{place}:1.{number}/driver"]
        fake.plug(kernel, "4-1", "0951:1666", "E0D55E", drivers=("usbhid",), kind="08")
    assert engine.undo("release", uuid(1)) == []
    if meanwhile == "gone":
        assert sum("is not plugged in: nothing to undo" in line for line in log.infos) == 4
    else:
        stick = "4-1" if place else "1-5"
        assert kernel.link(f"{DEVICES}/{stick}:1.0/driver") == "usb-storage"
        for number in range(3):
            assert kernel.link(f"{DEVICES}/{place or '1-4'}:1.{number}/driver") == "usbhid"
    assert not log.warnings


def test_a_device_without_a_serial_number_is_not_taken_for_its_twin() -> None:
    kernel = a_host()
    knob = UsbDriver("1-4", "1.0", RECEIVER)
    fake.unplug(kernel, "1-4")
    for place in ("2-1", "2-2"):
        fake.plug(kernel, place, RECEIVER)
    with pytest.raises(HookError, match="is not plugged in"):
        knob.read(kernel)


def test_a_driver_that_does_not_fit() -> None:
    kernel = a_host()
    kernel.refuses.add("/sys/bus/usb/drivers/usb-storage/bind")
    with pytest.raises(
        HookError, match="cannot bind: Invalid argument; this driver may not support"
    ):
        UsbDriver("1-4", "1.0", RECEIVER).write(kernel, "usb-storage")


def a_tree(folder: Path, *buses: tuple[int, str]) -> Host:
    """A host with a keyboard in port 4 of each bus, which is that of a PCI controller."""
    links = folder / DEVICES[1:]
    links.mkdir(parents=True)
    for bus, controller in buses:
        device = folder / f"sys/devices/pci0000:00/{controller}/usb{bus}/{bus}-4"
        for name, text in (("idVendor", "046d"), ("idProduct", "c52b"), ("busnum", str(bus))):
            device.mkdir(parents=True, exist_ok=True)
            (device / name).write_text(text)
        (device / f"{bus}-4:1.0").mkdir()
        for path in (device.parent, device, device / f"{bus}-4:1.0"):
            (links / path.name).symlink_to(path)
    return Host(str(folder))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("pci-0000:00:14.0-usb-0:4", ["2-4:1.0"]),
        ("pci-0000:00:14.0-usbv2-0:4:1.0", ["2-4:1.0"]),
        ("pci-0000:0b:00.3-usb-0:4", ["1-4:1.0"]),
    ],
)
def test_a_port_that_is_the_same_at_every_boot(
    tmp_path: Path, device: str, expected: list[str]
) -> None:
    host = a_tree(tmp_path, (1, "0000:0b:00.3"), (2, "0000:00:14.0"))
    found = plan(Event("vm", "prepare"), Domain("vm", "u"), Options(device=device), host)
    assert [step.key.removeprefix(f"{DEVICES}/") for step in found] == [
        f"{interface}/driver" for interface in expected
    ]


def test_twins_are_told_apart_when_their_buses_have_changed_numbers(tmp_path: Path) -> None:
    before = a_tree(tmp_path / "before", (1, "0000:0b:00.3"), (2, "0000:00:14.0"))
    after = a_tree(tmp_path / "after", (2, "0000:0b:00.3"), (1, "0000:00:14.0"))
    for device in usb.devices(before):
        assert device.place
        found = usb.find(after, device.path, device.ids, device.serial, device.place)
        assert found is not None
        assert (found.place, found.path) == (device.place, {"1-4": "2-4"}.get(device.path, "1-4"))
