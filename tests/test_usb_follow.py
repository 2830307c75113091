"""USB devices that follow: which device is given to the VM again, and which never is."""

import os
import socket
import subprocess
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from tests.fakes import usb as fake
from tests.fakes.kernel import a_host
from tests.fakes.usb import DEVICES, RECEIVER
from vfio_hooks.domain import Domain
from vfio_hooks.domain.devices import UsbDevice
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, uevents
from vfio_hooks.host.usb import Device
from vfio_hooks.knobs.command import Command
from vfio_hooks.plugins.usb import Options, plan
from vfio_hooks.services import hostdevs
from vfio_hooks.services.hostdevs import Hostdevs, numbered, wanted
from vfio_hooks.services.usb import TRIES, Follower, follow, plugged_in

pytestmark = pytest.mark.real_processes
STICK = "0951:1666"


class Ports:
    """What is plugged in. A number or an inode is never used twice."""

    def __init__(self) -> None:
        self.there: dict[int, Device] = {}
        self.last = 0

    def plug(self, path: str, ids: str = RECEIVER, serial: str = "", number: int = 0) -> Device:
        self.last += 1
        new = Device(path, ids, serial, "", int(path[0]), number or self.last, f"pci-{path}")
        self.there[self.last] = new
        return new

    def unplug(self, *paths: str) -> None:
        self.there = {key: one for key, one in self.there.items() if one.path not in paths}


class Running(Hostdevs):
    """A running domain, as libvirt has it."""

    def __init__(self, ports: Ports) -> None:
        super().__init__("uuid")
        self.ports = ports
        self.elements: list[Element] = []
        self.did: list[str] = []
        self.refuses = 0
        self.asked = 0

    def add(self, inside: str, policy: str = "") -> None:
        number = len(self.did) + len(self.elements)
        self.elements.append(
            ElementTree.fromstring(
                f"<hostdev mode='subsystem' type='usb'><source{policy}>{inside}</source>"
                f"<alias name='hostdev{number}'/><address type='usb' bus='0' port='{number}'/>"
                "</hostdev>"
            )
        )

    def give(self, device: Device, *, by_ids: bool = True) -> None:
        vendor, product = device.ids.split(":")
        ids = f"<vendor id='0x{vendor}'/><product id='0x{product}'/>" * by_ids
        self.add(f"{ids}<address bus='{device.bus}' device='{device.number}'/>")

    def all(self) -> list[Element]:
        self.asked += 1
        return [ElementTree.fromstring(ElementTree.tostring(one)) for one in self.elements]

    def detach(self, hostdev: Element) -> None:
        gone = ElementTree.tostring(hostdev)
        left = [one for one in self.elements if ElementTree.tostring(one) != gone]
        assert len(left) == len(self.elements) - 1
        self.elements = left
        self.did.append(f"- {wanted(hostdev)}")

    def attach(self, hostdev: Element) -> None:
        if self.refuses:
            self.refuses -= 1
            raise HookError("virsh attach-device: exit code 1: error: Timed out")
        new = wanted(hostdev)
        there = [(one.bus, one.number) for one in self.ports.there.values()]
        assert new.path or new.address in there
        used = [wanted(one).address for one in self.elements]
        assert new.path or new.address not in used
        assert hostdev.find("alias") is None
        address = hostdev.find("address")
        assert address is not None and address.get("type") == "usb"
        hostdev.append(Element("alias", name=f"hostdev{len(self.did) + 100}"))
        self.elements.append(hostdev)
        self.did.append(f"+ {new}")

    def has(self) -> list[str]:
        """The ports of the host whose devices the VM has now."""
        names = [wanted(one) for one in self.elements]
        return sorted(
            one.path
            for one in self.ports.there.values()
            if any((one.bus, one.number) == it.address or one.path == it.path for it in names)
        )


class World:
    def __init__(self, named: str = "") -> None:
        self.ports = Ports()
        self.domain = Running(self.ports)
        self.lines: list[str] = []
        self.uses: list[str] = []
        self.follower = Follower(
            self.domain,
            lambda: dict(self.ports.there),
            lambda device: self.uses,
            self.lines.append,
            self.lines.append,
            named,
        )

    def settle(self) -> None:
        """As many looks as there are after a change."""
        rounds = iter(range(2 * TRIES))
        follow(self.follower, lambda seconds: seconds is None or next(rounds, None) is None)
        assert next(rounds, None) is not None


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("by_ids", [True, False], ids=["by ids", "by number"])
@pytest.mark.parametrize("seen", [True, False], ids=["slowly", "at once"])
def test_it_comes_back_every_time(world: World, by_ids: bool, seen: bool) -> None:
    ports, domain = world.ports, world.domain
    domain.give(ports.plug("1-4"), by_ids=by_ids)
    world.settle()
    for _ in range(5):
        ports.unplug("1-4")
        if seen:
            world.settle()
            assert domain.has() == []
        ports.plug("1-4")
        world.settle()
        assert domain.has() == ["1-4"] and len(domain.elements) == 1
    assert sum("is not plugged in" in line for line in world.lines) == 5
    assert sum("is back, and the VM has it" in line for line in world.lines) == 5


def test_it_comes_back_with_its_old_number(world: World) -> None:
    """As when its controller was bound anew: QEMU has lost it all the same."""
    number = world.ports.plug("1-4").number
    world.domain.give(world.ports.there[1])
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug("1-4", number=number)
    world.settle()
    assert [line[0] for line in world.domain.did] == ["-", "+"]


@pytest.mark.parametrize(
    ("serial", "back", "follows"),
    [
        ("", ("1-4", RECEIVER, ""), True),
        ("", ("2-1", RECEIVER, ""), True),
        ("", ("1-4", STICK, ""), False),
        ("A", ("2-1", RECEIVER, "A"), True),
        ("A", ("1-4", RECEIVER, "B"), True),
    ],
)
def test_what_is_taken_for_it(
    world: World, serial: str, back: tuple[str, str, str], follows: bool
) -> None:
    world.domain.give(world.ports.plug("1-4", serial=serial))
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug(*back)
    world.settle()
    assert world.domain.has() == [back[0]] * follows


def test_by_number_it_is_this_very_device(world: World) -> None:
    world.domain.give(world.ports.plug("1-4", serial="A"), by_ids=False)
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug("1-4", serial="B")
    world.settle()
    assert world.domain.has() == []
    world.ports.plug("2-1", serial="A")
    world.settle()
    assert world.domain.has() == ["2-1"]


@pytest.mark.parametrize("back", [("1-3",), ("1-3", "1-4"), ("2-1",)])
@pytest.mark.parametrize("serial", ["", "0123456789"])
def test_the_host_s_own_twin_is_never_taken(
    world: World, back: tuple[str, ...], serial: str
) -> None:
    ports, domain = world.ports, world.domain
    ports.plug("1-3", serial=serial)
    domain.give(ports.plug("1-4", serial=serial))
    world.settle()
    ports.unplug("1-4")
    world.settle()
    assert domain.has() == []
    # Both are behind a hub that is switched.
    ports.unplug("1-3")
    world.settle()
    for path in back:
        ports.plug(path, serial=serial)
        world.settle()
    assert domain.has() == [path for path in back if path != "1-3"]


@pytest.mark.parametrize("order", [("1-3", "1-4"), ("1-4", "1-3")])
def test_twins_of_the_vm_come_back_to_their_own_places(
    world: World, order: tuple[str, str]
) -> None:
    ports, domain = world.ports, world.domain
    for path in ("1-3", "1-4"):
        domain.give(ports.plug(path))
    world.settle()
    places = {wanted(one).address: one.find("address") for one in domain.elements}
    homes = {
        one.path: places[one.bus, one.number].get("port")  # type: ignore[union-attr]
        for one in ports.there.values()
    }
    ports.unplug(*order)
    for path in order:
        ports.plug(path)
        world.settle()
    assert domain.has() == ["1-3", "1-4"]
    for one in ports.there.values():
        (element,) = [it for it in domain.elements if wanted(it).address == (one.bus, one.number)]
        assert element.find("address").get("port") == homes[one.path]  # type: ignore[union-attr]


def test_two_that_could_be_it_are_left(world: World) -> None:
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    world.ports.unplug("1-4")
    for path in ("2-1", "2-2"):
        world.ports.plug(path)
    world.settle()
    assert world.domain.has() == []
    world.ports.unplug("2-2")
    world.settle()
    assert world.domain.has() == ["2-1"]


def test_one_that_moved_is_taken_only_when_all_have_come(world: World) -> None:
    ports, domain = world.ports, world.domain
    domain.give(ports.plug("1-4"))
    world.settle()
    ports.unplug("1-4")
    ports.plug("2-1")
    assert world.follower.look()
    assert domain.did == []
    ports.plug("1-4")
    world.settle()
    assert domain.has() == ["1-4"]


def test_one_that_comes_back_is_given_once(world: World) -> None:
    for path in ("1-3", "1-4"):
        world.domain.give(world.ports.plug(path))
    world.settle()
    world.ports.unplug("1-3", "1-4")
    world.ports.plug("2-1")
    world.settle()
    assert [line[0] for line in world.domain.did] == ["-", "+"]


def test_a_port_takes_whatever_is_plugged_in_there(world: World) -> None:
    world.ports.plug("1-4")
    world.domain.add("<address bus='1' port='4'/>")
    world.settle()
    for ids in (STICK, RECEIVER):
        world.ports.unplug("1-4")
        world.ports.plug("1-4", ids)
        world.settle()
    assert world.domain.did == ["- 1-4", "+ 1-4"] * 2


def test_one_that_was_not_there_at_the_start(world: World) -> None:
    vendor, product = RECEIVER.split(":")
    inside = f"<vendor id='0x{vendor}'/><product id='0x{product}'/>"
    world.domain.add(inside, " startupPolicy='optional' missing='yes'")
    world.settle()
    world.ports.plug("2-1")
    world.settle()
    assert world.domain.has() == ["2-1"]
    source = world.domain.elements[0].find("source")
    assert source is not None and source.attrib == {"startupPolicy": "optional"}


@pytest.mark.parametrize("named", ["1-4", "pci-1-4"])
def test_only_the_one_that_is_named(named: str) -> None:
    world = World(named)
    for path in ("1-4", "1-5"):
        world.domain.give(world.ports.plug(path))
    world.settle()
    world.ports.unplug("1-4", "1-5")
    for path in ("1-4", "1-5"):
        world.ports.plug(path)
    world.settle()
    assert world.domain.has() == ["1-4"]
    world.ports.unplug("1-4")
    world.ports.plug("2-1")
    world.settle()
    assert world.domain.has() == []


@pytest.mark.parametrize("refuses", [1, 3])
def test_libvirt_is_asked_again(world: World, refuses: int) -> None:
    """Between detach and attach the domain has no such <hostdev>, so it is remembered."""
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug("1-4")
    world.domain.refuses = refuses
    world.settle()
    assert world.domain.has() == ["1-4"] and len(world.domain.elements) == 1
    assert sum("Timed out" in line for line in world.lines) == 1


@pytest.mark.parametrize("twin", [False, True])
def test_it_came_back_before_the_first_look(world: World, twin: bool) -> None:
    """The service is still starting then; it was told which devices are the host's."""
    world.domain.give(world.ports.plug("1-4"))
    world.ports.unplug("1-4")
    world.ports.plug("1-3" if twin else "1-4")
    world.follower.twins = ["1-3"]
    world.settle()
    assert world.domain.has() == ["1-4"] * (not twin)


def test_what_the_host_uses_by_then_stays(world: World) -> None:
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug("1-4")
    world.uses = ["sda1 is mounted on /media"]
    world.settle()
    assert world.domain.did == []
    assert [line for line in world.lines if "sda1 is mounted on /media; end that" in line]


def test_what_a_user_detaches_stays_away(world: World) -> None:
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    world.domain.elements.clear()
    world.ports.unplug("1-4")
    world.ports.plug("1-4")
    world.settle()
    assert world.domain.has() == []


def test_one_that_a_user_attaches_follows_as_well(world: World) -> None:
    device = world.ports.plug("1-4")
    world.settle()
    world.domain.give(device, by_ids=False)
    world.ports.unplug("1-4")
    world.ports.plug("1-4")
    world.settle()
    assert world.domain.has() == ["1-4"]


def test_libvirt_is_not_asked_while_nothing_changes(world: World) -> None:
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    asked = world.domain.asked
    for _ in range(5):
        world.settle()
    assert world.domain.asked == asked


def test_a_libvirt_that_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.domain.give(world.ports.plug("1-4"))
    world.settle()
    world.ports.unplug("1-4")
    world.ports.plug("1-4")
    answers = world.domain.all
    tries = iter(range(3))

    def fail() -> list[Element]:
        if next(tries, None) is None:
            return answers()
        raise HookError("virsh dumpxml: not finished after 30 s")

    monkeypatch.setattr(world.domain, "all", fail)
    world.settle()
    assert world.domain.has() == ["1-4"]
    assert sum("not finished" in line for line in world.lines) == 1


def test_what_virsh_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the running domain, by its UUID, and each command with a limit."""
    ran: list[list[str]] = []
    answers = iter(["<domain><devices>{}</devices></domain>", "<domain/>"])
    world = World()
    world.domain.give(world.ports.plug("1-4"))
    given = ElementTree.tostring(world.domain.elements[0]).decode()

    def run(argv: list[str], seconds: float) -> str:
        assert seconds <= 30
        ran.append(argv[4:])
        if argv[4] == "attach-device":
            assert b"0x046d" in Path(argv[6]).read_bytes()
        return next(answers).format(given) if argv[4] == "dumpxml" else ""

    monkeypatch.setattr(hostdevs, "run", run)
    domain = Hostdevs("u")
    (hostdev,) = domain.all()
    domain.detach(hostdev)
    domain.attach(numbered(hostdev, world.ports.there[1]))
    assert [argv[0] for argv in ran] == [
        *("dumpxml", "detach-device-alias", "dumpxml", "attach-device")
    ]
    assert ran[1] == ["detach-device-alias", "u", "hostdev0", "--live"]
    assert (ran[3][1], ran[3][3]) == ("u", "--live")


def test_a_device_that_is_plugged_in_again_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/usb/devices/1-4"

    def plug(name: Path) -> None:
        name.mkdir(parents=True)
        for file, text in (("idVendor", "046d"), ("idProduct", "c52b"), ("devnum", "2")):
            (name / file).write_text(text)

    plug(folder)
    host = Host(str(tmp_path))
    before = plugged_in(host)
    # So that the file system cannot give its inode to the next one.
    os.rename(folder, tmp_path / "gone")
    plug(folder)
    after = plugged_in(host)
    assert list(before.values()) == list(after.values())
    assert not before.keys() & after.keys()


def test_messages_are_only_a_reason_to_look() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    with ours, theirs:
        for message, expected in (
            (b"add@/devices/x\0ACTION=add\0SUBSYSTEM=pci\0", False),
            (b"libudev\0\xfe\xed\xca\xfe\0ACTION=bind\0SUBSYSTEM=usb\0", True),
        ):
            theirs.send(message)
            assert uevents.of_usb(ours) is expected
        assert not uevents.of_usb(ours)


def test_the_service_ends_with_the_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vfio_hooks.services import usb

    monkeypatch.setattr(Hostdevs, "all", lambda self: [])
    monkeypatch.setattr(usb, "devices", lambda host: [])
    pidfile = tmp_path / "vm.pid"
    with subprocess.Popen(["sleep", "0.2"]) as qemu:
        pidfile.write_text(f"{qemu.pid}\n")
        assert usb.main(["u", str(pidfile)]) == 0
    assert usb.main(["u", str(pidfile)]) == 0


@pytest.mark.parametrize(
    ("device", "named"),
    [
        (None, ""),
        (RECEIVER.upper(), RECEIVER),
        ("1-4", "1-4"),
        ("pci-0000:0b:00.3-usbv2-0:4", "pci-0000:0b:00.3-usb-0:4"),
    ],
)
def test_the_service_of_a_table(device: str | None, named: str) -> None:
    kernel = a_host()
    number = int(kernel.read(f"{DEVICES}/1-4/devnum"))
    fake.plug(kernel, "3-1", RECEIVER)
    vm = Domain("vm", "u", usb=(UsbDevice(RECEIVER, (1, number)),))
    (step,) = plan(Event("vm", "started"), vm, Options(device=device, follow=True), kernel)
    assert isinstance(step.knob, Command) and step.until == "stopped" and not step.required
    only = [f"--device={named}"] * bool(named)
    end = ["vfio_hooks.services.usb", "u", "/run/libvirt/qemu/vm.pid", *only, "--twin=3-1"]
    assert list(step.knob.do)[-len(end) :] == end
    assert step.knob.undo[-1] == f"vfio-hooks-usb-u{f'-{named}' * bool(named)}.servic[e]"
    assert not list(plan(Event("vm", "started"), vm, Options(device=device), kernel))


def test_only_what_the_domain_is_given_can_follow() -> None:
    vm = Domain("vm", "u", usb=(UsbDevice(RECEIVER, None),))
    with pytest.raises(HookError, match=r"vm is not given 1-5, so it cannot follow; add it"):
        list(plan(Event("vm", "prepare"), vm, Options(device="1-5", follow=True), a_host()))
    with pytest.raises(ValueError, match="follow is for whole devices"):
        Options(device="1-4:1.0", follow=True)
    assert list(plan(Event("vm", "prepare"), vm, Options(device="1-4", follow=True), a_host()))
