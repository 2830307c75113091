"""The watch of [gpu]: signs of life in configuration space and interrupts, and when it acts."""

import os
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.command import Command
from vfio_hooks.cli.alive import hears
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.signs import signs
from vfio_hooks.services import alive
from vfio_hooks.services.alive import Busy, Watch, losses

GPU = "0000:03:00.0"
HEAD = "            CPU0       CPU1\n"


def space(command: int = 0, capabilities: Sequence[tuple[int, int]] = ()) -> bytes:
    """A configuration space with these (kind, control word) as its capabilities."""
    data = bytearray(256)
    data[0:4] = b"\x02\x10\xbf\x73"
    data[4:8] = struct.pack("<HH", command, 0x10 if capabilities else 0)
    place = 0x40
    data[0x34] = place
    for number, (kind, control) in enumerate(capabilities, 1):
        following = place + 16 if number < len(capabilities) else 0
        data[place : place + 4] = struct.pack("<BBH", kind, following, control)
        place += 16
    return bytes(data)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / f"sys/bus/pci/devices/{GPU}").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    made = Host(str(tmp_path))
    put(made, space())
    interrupts(made)
    return made


def put(host: Host, data: bytes) -> None:
    Path(host.path(f"/sys/bus/pci/devices/{GPU}/config")).write_bytes(data)


def interrupts(host: Host, *lines: str) -> None:
    Path(host.path("/proc/interrupts")).write_text(HEAD + "".join(f"{one}\n" for one in lines))


@pytest.mark.parametrize(
    ("command", "capabilities", "expected"),
    [
        (0x0, [], (False, False)),
        (0x7, [], (True, False)),
        (0x3, [(0x01, 0xFFFF)], (False, False)),
        (0x7, [(0x05, 0x80)], (True, False)),
        (0x7, [(0x05, 0x81)], (True, True)),
        (0x7, [(0x01, 0), (0x10, 0), (0x11, 0x8003)], (True, True)),
        (0x7, [(0x11, 0x0001)], (True, False)),
    ],
)
def test_what_a_driver_sets(
    host: Host, command: int, capabilities: list[tuple[int, int]], expected: tuple[bool, bool]
) -> None:
    put(host, space(command, capabilities))
    seen = signs(host, GPU)
    assert (seen.masters, seen.messages) == expected


def test_a_list_of_capabilities_without_an_end(host: Host) -> None:
    data = bytearray(space(7, [(0x01, 0)]))
    data[0x41] = 0x40
    put(host, bytes(data))
    assert not signs(host, GPU).messages


def test_the_interrupts_that_are_counted(host: Host) -> None:
    interrupts(
        host,
        f" 20:   3   4   IR-IO-APIC   20-fasteoi   vfio-intx(0000:04:00.2), vfio-intx({GPU})",
        f" 72:   5   6   IR-PCI-MSIX-{GPU}    1-edge      vfio-msix[1]({GPU})",
        " 73: 100   0   IR-PCI-MSIX-0000:04:00.0    1-edge      vfio-msix[1](0000:04:00.0)",
        " 74: 100   0   PCI-MSI 0-edge  xhci_hcd",
    )
    assert signs(host, GPU).interrupts == 18


@pytest.mark.parametrize("data", [b"\xff" * 64, b"\x02\x10"])
def test_a_card_that_does_not_answer(host: Host, data: bytes) -> None:
    put(host, data)
    with pytest.raises(HookError, match="no longer answers"):
        signs(host, GPU)


class Time:
    """A clock that a wait moves forward; `then` says what happens at which second."""

    def __init__(self, end: float = 1e9) -> None:
        self.now = 0.0
        self.end = end
        self.then: dict[int, object] = {}

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        happens = self.then.get(round(self.now))
        if callable(happens):
            happens()
        return self.now >= self.end


IDLE = Busy(running=True, written=0)


def watch(host: Host, time: Time, *answers: Busy | None, agent: bool = False) -> Watch:
    """A watch of a VM that is this busy each time that libvirt is asked, and then idle."""
    asked = iter(answers)
    return Watch(host, [GPU], lambda: next(asked, IDLE), lambda: agent, time)


@pytest.mark.parametrize("after", [1, 30, 89])
@pytest.mark.parametrize("claimed", ["messages", "line"])
def test_a_driver_that_takes_the_card_in_time(host: Host, after: int, claimed: str) -> None:
    time = Time()
    if claimed == "messages":
        time.then[after] = lambda: put(host, space(7, [(0x05, 0x81)]))
    else:
        time.then[after] = lambda: interrupts(host, f" 20: 0 1 x vfio-intx({GPU})")
    sign = watch(host, time).until_alive(90, time.wait)
    assert sign and GPU in sign
    assert time.now == after


def test_nothing_happens_in_time(host: Host) -> None:
    time = Time()
    assert watch(host, time, IDLE).until_alive(90, time.wait) == ""
    # Looked at twice, so that it is known that nothing is written meanwhile.
    assert time.now == 100


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ([Busy(False, 0)] * 5 + [IDLE], 150),
        ([Busy(True, 10), Busy(True, 20), Busy(True, 20)], 110),
        ([None, None, IDLE], 120),
        ([IDLE, Busy(False, 0), IDLE], 120),
    ],
    ids=["paused", "writes", "libvirt is away", "paused in between"],
)
def test_a_vm_that_is_given_more_time(host: Host, answers: list[Busy | None], ends: int) -> None:
    time = Time()
    assert watch(host, time, *answers).until_alive(90, time.wait) == ""
    assert time.now == ends


def test_other_signs_of_life(host: Host) -> None:
    time = Time()
    assert watch(host, time, agent=True).until_alive(90, time.wait) == "the guest agent answers"
    time = Time()
    seen = watch(host, time)

    def say() -> None:
        seen.said = True

    time.then[7] = say
    assert seen.until_alive(90, time.wait) == "somebody ran vfio-hooks alive"
    assert time.now == 7


def test_a_vm_that_ends_meanwhile(host: Host) -> None:
    time = Time(end=20)
    assert watch(host, time).until_alive(90, time.wait) is None


def test_what_is_left_from_before_is_no_sign(host: Host) -> None:
    interrupts(host, f" 20: 8 9 x vfio-intx({GPU})")
    time = Time()
    assert watch(host, time).until_alive(90, time.wait) == ""


@pytest.mark.parametrize(
    ("record", "is_lost"),
    [
        (f"3,1,2,-;vfio-pci {GPU}: not ready 65535ms after FLR; giving up\n SUBSYSTEM=pci\n", True),
        (f"6,1,2,-;vfio-pci {GPU}: resetting\n", False),
        ("3,1,2,-;vfio-pci 0000:09:00.0: not ready 65535ms after FLR; giving up\n", False),
        (f"3,1,2,-;{GPU}: Invalid PCI ROM header signature: expecting 0xaa55, got 0x0", False),
    ],
)
def test_lines_of_a_card_that_is_lost(record: str, is_lost: bool) -> None:
    assert bool(losses(record, [GPU])) is is_lost


def test_the_lines_of_lost_cards_are_known() -> None:
    from vfio_hooks.why.known import KNOWN

    assert set(alive.LOST) <= {known.name for known in KNOWN}


@pytest.mark.parametrize(
    ("action", "expected"), [("tell", []), ("shutdown", ["shutdown"]), ("destroy", ["destroy"])]
)
def test_a_vm_is_ended_only_where_that_was_written(
    action: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(alive, "run", lambda argv, seconds: ran.append(argv))
    alive.end("win11", action, lambda seconds: False)
    assert [argv[-2] for argv in ran] == expected


@pytest.mark.parametrize(
    ("fails", "ends_at", "asked", "is_told"),
    [(0, None, 1, False), (2, None, 3, False), (9, 30, 3, False), (9, None, 6, True)],
    ids=["at once", "libvirtd was restarted", "it ended by itself", "libvirtd is gone"],
)
def test_libvirt_is_asked_again(
    fails: int, ends_at: int | None, asked: int, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    time, ran = Time(end=ends_at or 1e9), list[str]()

    def run(argv: list[str], seconds: float) -> None:
        ran.append(argv[-2])
        if len(ran) <= fails:
            raise HookError("Cannot recv data: Connection reset by peer")

    monkeypatch.setattr(alive, "run", run)
    try:
        alive.end("win11", "destroy", time.wait)
        told = False
    except HookError:
        told = True
    assert (ran, told) == (["destroy"] * asked, is_told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Domain: 'a'\n  state.state=1\n  block.0.wr.bytes=5\n  block.1.wr.bytes=6\n",
            Busy(True, 11),
        ),
        ("  state.state=3\n", Busy(False, 0)),
        ("", Busy(False, 0)),
    ],
)
def test_what_libvirt_says_of_a_vm(
    text: str, expected: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "run", lambda argv, seconds: text)
    assert alive.busy("win11") == expected


def test_a_libvirt_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: list[str], seconds: float) -> str:
        raise HookError("virsh: not finished after 20 s")

    monkeypatch.setattr(alive, "run", refuse)
    assert alive.busy("win11") is None
    assert not alive.agent_answers("win11")


def test_a_vm_that_is_not_watched(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_hooks.cli.alive.need_root", lambda what: None)
    assert command("alive", "win11").err == (
        "vfio-hooks: win11 is not watched; set alive in [gpu] of its vm.toml to have it watched\n"
    )


def test_a_watch_that_has_only_just_started_is_not_told_yet() -> None:
    former = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        assert hears(str(os.getpid()))
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        assert not hears(str(os.getpid()))
    finally:
        signal.signal(signal.SIGUSR1, former)
    # systemctl shows 0 for a service that does not run, and is not waited for.
    assert hears("0")
