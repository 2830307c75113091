"""The knob for a systemd unit, on the fake systemd."""

from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import Host
from vfio_hooks.knobs.unit import Unit

NAME = "gdm.service"
KNOB = Unit(NAME, seconds=0.2)


def a_host(state: str) -> Kernel:
    kernel = Kernel()
    kernel.units[NAME] = state
    return kernel


@pytest.mark.parametrize(
    ("state", "value"),
    [
        ("active", "active"),
        ("reloading", "active"),
        ("inactive", "inactive"),
        ("failed", "inactive"),
        ("activating", "active"),
        ("deactivating", "inactive"),
    ],
)
def test_the_value_of_a_state(state: str, value: str) -> None:
    assert KNOB.read(a_host(state)) == value


def test_a_unit_on_its_way_is_waited_for() -> None:
    class OnItsWay(Kernel):
        looks = 0

        def show(self, argv: list[str], seconds: float = 30) -> str:
            self.looks += 1
            self.units[NAME] = "activating" if self.looks < 3 else "failed"
            return super().show(argv, seconds)

    assert Unit(NAME).read(OnItsWay()) == "inactive"


def test_there_and_back() -> None:
    kernel = a_host("active")
    for value in ("inactive", "active"):
        KNOB.write(kernel, value)
        assert KNOB.read(kernel) == value
    assert kernel.ran == [["systemctl", verb, "--", NAME] for verb in ("stop", "start")]


def test_a_failed_unit_may_be_started_again() -> None:
    kernel = a_host("failed")
    KNOB.write(kernel, "active")
    assert [argv[1] for argv in kernel.ran] == ["reset-failed", "start"]


def test_a_unit_that_does_not_start_is_told_with_where_to_look() -> None:
    with pytest.raises(HookError, match=r"Job failed\.; systemctl status gdm.service; journalctl"):
        KNOB.write(a_host("broken"), "active")


def test_absent_and_masked_units() -> None:
    with pytest.raises(Gone, match=r"nope.service: systemd has no such unit"):
        Unit("nope.service").read(a_host("active"))
    with pytest.raises(HookError, match=r"gdm.service is masked; systemctl unmask gdm.service"):
        KNOB.read(a_host("masked"))


def test_nothing_is_started_while_the_host_goes_down() -> None:
    class GoingDown(Kernel):
        def show(self, argv: list[str], seconds: float = 30) -> str:
            return "stopping\n" if "--value" in argv else super().show(argv, seconds)

    kernel = GoingDown()
    kernel.units[NAME] = "inactive"
    with pytest.raises(Immovable, match="the host is shutting down"):
        KNOB.write(kernel, "active")
    assert kernel.ran == []


def test_a_captured_host_shows_units_by_their_control_groups(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/system.slice" / NAME).mkdir(parents=True)
    assert KNOB.read(Host(str(tmp_path))) == "active"
    assert Unit("ssh.service").read(Host(str(tmp_path))) == "inactive"
