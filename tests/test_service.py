"""The service and inhibit plugins: units stopped and started, and no sleep."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.commands import failed
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.plan import Change
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.transient import ABSENT, Transient
from vfio_hooks.plugins import inhibit, service
from vfio_hooks.steps import Step

PREPARE = Event("vm", "prepare")


def vm(number: int = 1) -> Domain:
    return Domain(f"vm{number}", f"00000000-0000-0000-0000-00000000000{number}")


def planned(kernel: Kernel, **options: Any) -> list[Step]:
    return list(service.plan(PREPARE, vm(), service.Options(**options), kernel))


def test_vms_that_want_a_service_differently(memory: Path) -> None:
    kernel = a_host()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())

    def start(number: int, action: str) -> None:
        steps = planned(kernel, unit="gdm", action=action)
        engine.perform("prepare", vm(number).uuid, vm(number).name, lambda _: steps)

    start(1, "stop")
    assert kernel.units["gdm.service"] == "inactive"
    start(2, "start")
    assert kernel.units["gdm.service"] == "active"
    start(3, "stop")
    assert engine.undo("release", vm(3).uuid) == []
    assert kernel.units["gdm.service"] == "active"
    assert engine.undo("release", vm(2).uuid) == []
    assert kernel.units["gdm.service"] == "inactive"
    assert engine.undo("release", vm(1).uuid) == []
    assert kernel.units["gdm.service"] == "active"


def test_a_restart_is_done_twice() -> None:
    (step,) = planned(a_host(), unit="gdm", action="restart")
    again = ("systemctl", "try-restart", "--", "gdm.service")
    assert step.knob == Command(again, again, 100.0)
    with pytest.raises(HookError, match=r"nonesuch.service: systemd has no such unit"):
        planned(a_host(), unit="nonesuch", action="restart")


@pytest.mark.parametrize("unit", ["", "-x", "a b", "a*", "../x", "libvirtd", "dbus.socket"])
def test_units_that_are_none_of_ours(unit: str) -> None:
    with pytest.raises(ValueError, match="unit: "):
        service.Options(unit)


def test_a_lock_of_logind() -> None:
    kernel = a_host()
    with pytest.raises(HookError, match="no systemd-logind"):
        list(inhibit.plan(PREPARE, vm(), inhibit.Options(), kernel))
    kernel.units["systemd-logind.service"] = "masked"
    with pytest.raises(HookError, match="systemctl unmask systemd-logind"):
        list(inhibit.plan(PREPARE, vm(), inhibit.Options(), kernel))
    kernel.units["systemd-logind.service"] = "inactive"
    (step,) = inhibit.plan(PREPARE, vm(), inhibit.Options(("idle", "sleep", "idle")), kernel)
    assert isinstance(step.knob, Transient)
    assert step.knob.command[1:5] == (
        *("--what=idle:sleep", "--mode=block", "--who=vfio-hooks", "--why=VM vm1 runs"),
    )
    assert step.knob.command[-1] == "/run/libvirt/qemu/vm1.pid"
    change = Change(step, "not running", step.knob.value, "")
    assert str(change).endswith("1.service: not running → running (inhibits idle, sleep)")
    with pytest.raises(ValueError, match="nothing to inhibit"):
        inhibit.Options(())


SEE = 'See "systemctl status x.service" and "journalctl -xeu x.service" for details.'


def test_a_program_may_take_as_long_to_be_ready_as_to_end() -> None:
    """As one that waits for tuned at both."""

    class Timed(Kernel):
        def run(self, argv: list[str], seconds: float = 30) -> str:
            limits[argv[0]] = seconds
            return ""

    limits: dict[str, float] = {}
    knob = Transient("x.service", ("/bin/radio", "on"), ("Type=notify",), seconds=30)
    host = Timed()
    for value in (knob.value, ABSENT):
        knob.write(host, value)
    assert limits == {"systemd-run": 50, "systemctl": 50}


@pytest.mark.parametrize(
    ("properties", "title", "said", "told"),
    [
        ((), "", SEE, "/bin/radio cannot be run"),
        ((), "plays", SEE, "/bin/radio cannot be run"),
        # It could be run, but was never ready.
        (("Type=notify",), "plays", SEE, "did not start (plays)"),
        (("Type=notify",), "", SEE, "did not start (/bin/radio)"),
        (
            (),
            "",
            "Failed to start transient service unit: Unit x.service was already loaded.",
            "did not start (/bin/radio): Unit x.service was already loaded.",
        ),
    ],
)
def test_why_a_program_does_not_run(
    properties: tuple[str, ...], title: str, said: str, told: str
) -> None:
    class Failing(Kernel):
        def run(self, argv: list[str], seconds: float = 30) -> str:
            raise failed(argv, 1, said.encode())

    knob = Transient("x.service", ("/bin/radio", "on"), properties, title=title)
    with pytest.raises(HookError) as caught:
        knob.write(Failing(), knob.value)
    assert str(caught.value) == f"x.service: {told}; journalctl -u x.service"
