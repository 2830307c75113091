"""The power profile of [governor]: who is asked to hold it, and what ends that."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.fakes.cpufreq import add_policy
from tests.fakes.kernel import Kernel, Lines
from tests.fakes.power_profiles import TALK, Client, Daemon, talk
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.event import Event
from vfio_hooks.host.power_profiles import NAMES, NOT_HELD, UNIT, chosen, tuned
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.plugins import BUILT_IN
from vfio_hooks.plugins.governor import Options, plan
from vfio_hooks.services import hold, profile
from vfio_hooks.services.bus import BUS, UNKNOWN, Bus, Refused, Signal
from vfio_hooks.services.hold import Hold, Memory
from vfio_hooks.services.profile import waits
from vfio_hooks.steps import Step
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
CONFIG = """\
<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
</policy></busconfig>
"""
PROFILES = 'aa{{sv}} 2 2 "Profile" s "{}" "Driver" s "fake" 2 "Profile" s "{}" "Driver" s "fake"'


class Host(Kernel):
    """A host whose daemon has these profiles at one of its names. Without any there is none."""

    def __init__(self, name: str = NAMES[0], profiles: Sequence[str] = ()) -> None:
        super().__init__()
        add_policy(self, 0, "0 1", "acpi-cpufreq", "schedutil")
        self.name, self.profiles = name, profiles

    def show(self, argv: list[str], seconds: float = 30) -> str:
        if argv[0] == "busctl":
            # It must not be started only to be asked.
            assert "--auto-start=no" in argv
            if argv[-2] == self.name and self.profiles:
                return PROFILES.format(*self.profiles)
            raise HookError("busctl: Unit dbus-x.service not found.")
        return super().show(argv, seconds)


def planned(host: Host, wanted: str = "performance") -> list[Step]:
    options = Options(power_profile=wanted)  # type: ignore[arg-type]
    return list(plan(Event("vm", "prepare"), Domain("vm", "u"), options, host))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_held_before_anything_else_is_set_and_let_go_after_it(name: str) -> None:
    held, governor = planned(Host(name, ("performance", "balanced")))
    assert isinstance(held.knob, Transient)
    assert held.knob.unit == "vfio-hooks-profile-u.service"
    assert held.knob.command[-2:] == ("/run/libvirt/qemu/vm.pid", "performance")
    assert "RuntimeDirectory=vfio-hooks-profile-u" in held.knob.properties
    assert held.knob.shows(held.knob.value) == "running (holds the power profile performance)"
    assert f"RestartPreventExitStatus={NOT_HELD}" in held.knob.properties
    assert governor.key.endswith("scaling_governor")
    assert held.until == governor.until == "release"


def test_tuned_sets_a_profile_before_any_table_that_sets_the_same() -> None:
    """And after it is stopped where [[service]] says so."""
    place = BUILT_IN.index("governor")
    assert "service" in BUILT_IN[:place]
    assert {"memory", "cpus", "irqs", "write"} <= {*BUILT_IN[place:]}


def test_a_daemon_that_can_be_started() -> None:
    host = Host()
    host.files[f"/usr/share/dbus-1/system-services/{NAMES[1]}.service"] = ""
    assert len(planned(host)) == 2


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (Host(), "no daemon of this host has power profiles; install power-profiles-daemon or "),
        (
            Host(NAMES[1], ("power-saver", "balanced")),
            "this host has no power profile performance, only power-saver, balanced; remove ",
        ),
    ],
)
def test_what_the_host_has_not_is_refused(host: Host, why: str) -> None:
    with pytest.raises(HookError) as refused:
        planned(host)
    assert str(refused.value).startswith(why)


def test_the_fake_daemon_is_like_the_real_one() -> None:
    """tests/vm/test_power_profile.py shows the same of the real one."""
    daemon = Daemon()
    args = (lambda: Client(daemon), daemon.profile, daemon.choose, daemon.restart)
    assert talk(daemon.name, *args) == TALK


class Held:
    """A profile that is held for a VM, and what is told of it."""

    def __init__(
        self,
        name: str = NAMES[0],
        daemon: Daemon | None = None,
        host: Kernel | None = None,
        vm: str = "vm",
        tuned: Callable[[], str] = str,
    ) -> None:
        self.daemon = daemon or Daemon(name)
        self.host = host or Kernel()
        self.bus = Client(self.daemon)
        self.told: list[str] = []
        self.hold = Hold(
            self.bus,
            "performance",
            vm,
            self.told.append,
            self.daemon.free,
            lambda name, profile: self.daemon.choose(profile),
            tuned,
            Memory(self.host, f"/run/{UNIT}{vm}"),
        )

    def hear(self) -> None:
        for signal in self.bus.signals():
            self.hold.hear(signal)


@pytest.mark.parametrize("name", NAMES)
def test_whichever_daemon_there_is_holds_it(name: str) -> None:
    held = Held(name)
    held.hold.take()
    assert held.daemon.profile() == "performance"
    held.bus.close()
    assert held.daemon.profile() == "balanced"


def test_no_daemon_and_one_that_refuses() -> None:
    with pytest.raises(HookError, match="no daemon of this host has power profiles"):
        Held("org.example.Another").hold.take()
    held = Held()
    held.daemon.refuses = True
    with pytest.raises(Refused, match="no such profile"):
        held.hold.take()


def test_a_person_who_chooses_decides() -> None:
    held = Held()
    held.hold.take()
    held.daemon.choose("power-saver")
    held.hear()
    assert held.told == [
        "performance is no longer held: somebody has chosen another profile",
    ]
    # And goes on to decide when the daemon is restarted.
    held.daemon.restart()
    held.hear()
    assert held.daemon.profile() == "power-saver"
    assert len(held.told) == 1


def test_the_hold_of_another_one_is_none_of_ours() -> None:
    held, other = Held(), 7
    held.hold.take()
    held.hold.hear(Signal("ProfileReleased", (other,)))
    assert held.told == []
    assert held.hold.cookie is not None


def test_a_daemon_that_is_restarted_is_asked_again() -> None:
    held = Held()
    held.hold.take()
    held.daemon.restart()
    assert held.daemon.profile() == "balanced"
    held.hear()
    assert held.daemon.profile() == "performance"
    assert held.told == []
    held.daemon.refuses = True
    held.daemon.restart()
    held.hear()
    assert held.told == [
        f"performance is no longer held: {NAMES[0]}: HoldProfile: no such profile",
    ]
    # This daemon knows no hold of ours, and is not asked to end one.
    held.hold.end()


def test_a_daemon_that_is_started_to_be_asked_is_asked_once() -> None:
    """Where no desktop runs, the bus starts it for our first question."""
    held = Held()
    held.daemon.choose("power-saver")
    held.daemon.restart()

    def started(name: str) -> str | None:
        held.bus.send(Signal("NameOwnerChanged", (name, "", ":1.7")))
        return held.daemon.free(name)

    held.hold.chosen = started
    held.hold.take()
    held.hear()
    assert len(held.daemon.holds) == 1
    # As another hold could be somebody else's, what was chosen would not come back.
    held.hold.chosen = held.daemon.free
    held.hold.end()
    assert held.daemon.profile() == "power-saver"


def test_a_daemon_that_was_stopped_is_not_started_to_end_a_hold() -> None:
    held = Held()
    held.hold.take()
    held.daemon.holds.clear()
    held.hold.hear(Signal("NameOwnerChanged", (NAMES[0], ":1.7", "")))
    held.bus.call = stopped  # type: ignore[assignment,method-assign]
    held.hold.end()
    assert held.told == []


def stopped(*_: object) -> NoReturn:
    raise Interrupted("stopped")


def test_an_end_that_systemd_asks_for_while_the_daemon_is_asked() -> None:
    held = Held()
    held.hold.chosen = stopped
    with pytest.raises(Interrupted):
        held.hold.take()
    assert held.daemon.holds == {}
    held = Held()
    held.daemon.choose("power-saver")
    held.hold.take()
    held.daemon.restart()
    held.daemon.hold = stopped  # type: ignore[assignment,method-assign]
    with pytest.raises(Interrupted):
        held.hear()
    held.hold.end()
    assert held.daemon.profile() == "power-saver"
    assert held.told == []


def test_what_a_person_had_chosen_comes_back() -> None:
    """Also where the daemon has forgotten it."""
    for forgets in (False, True):
        held = Held()
        held.daemon.choose("power-saver")
        if forgets:
            held.daemon.restart()
        held.hold.take()
        assert held.daemon.profile() == "performance"
        held.hold.end()
        assert held.daemon.profile() == "power-saver"


def test_what_others_hold_or_choose_stays() -> None:
    held = Held()
    other = Client(held.daemon)
    other.call(NAMES[0], "HoldProfile", "power-saver", "why", "who")
    held.hold.take()
    held.hold.end()
    assert held.daemon.profile() == "power-saver"
    other.close()
    assert held.daemon.profile() == "balanced"
    held = Held()
    held.hold.take()
    other = Client(held.daemon)
    other.call(NAMES[0], "HoldProfile", "power-saver", "why", "who")
    held.hold.end()
    assert held.daemon.profile() == "power-saver"
    held = Held()
    held.hold.take()
    held.daemon.choose("power-saver")
    held.hear()
    held.hold.end()
    assert held.daemon.profile() == "power-saver"


class Tuned(Held):
    """A profile that is held at tuned-ppd, with what tuned says after it was told each profile."""

    def __init__(self, *says: Signal) -> None:
        super().__init__(tuned=self.told_profile)
        self.profile, self.says = self.daemon.profile(), says

    def told_profile(self) -> str:
        if (now := self.daemon.profile()) != self.profile:
            self.profile = now
            for signal in self.says:
                self.bus.send(signal)
        return now


def changed(profile: str) -> Signal:
    return Signal("profile_changed", (profile,))


def test_tuned_has_set_a_profile_before_anything_else_is_set() -> None:
    """And before the VM's end is over."""
    held = Tuned(changed("balanced"), changed("performance"))
    for step, wanted in ((held.hold.take, "performance"), (held.hold.end, "balanced")):
        step()
        assert held.profile == wanted
        # It was waited for.
        assert held.bus.signals() == []
    assert held.told == []


def test_tuned_is_not_waited_for_where_nothing_is_to_be_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold, "APPLIED", 0)
    held = Tuned()
    held.daemon.choose("performance")
    held.profile = "performance"
    held.hold.take()
    held.hold.end()
    assert held.told == []


def test_a_person_chooses_while_tuned_is_waited_for() -> None:
    held = Tuned()
    held.says = (Signal("ProfileReleased", (1,)), changed("performance"))
    held.hold.take()
    assert held.told == ["performance is no longer held: somebody has chosen another profile"]


def test_tuned_that_never_says_that_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "APPLIED", 0.1)
    held = Tuned(changed("balanced"))
    held.hold.take()
    assert held.told == [
        "tuned did not set its profile performance within 0.1 s; journalctl -u tuned",
    ]
    assert held.hold.cookie is not None


def test_tuned_that_ends_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "APPLIED", 0)
    held = Held(tuned=iter(["balanced", ""]).__next__)
    held.hold.take()
    assert held.told == []


def forgetful() -> Held:
    """A profile that is held at a daemon that has forgotten what was chosen."""
    held = Held()
    held.daemon.choose("power-saver")
    held.daemon.restart()
    held.hold.take()
    return held


def test_what_the_daemon_has_forgotten_outlives_a_kill() -> None:
    killed = forgetful()
    killed.bus.close()
    assert killed.daemon.profile() == "balanced"
    again = Held(daemon=killed.daemon, host=killed.host)
    again.hold.take()
    again.hold.end()
    assert again.daemon.profile() == "power-saver"


def test_what_the_daemon_has_forgotten_is_known_to_every_vm() -> None:
    first = forgetful()
    second = Held(daemon=first.daemon, host=first.host, vm="other")
    second.hold.take()
    first.hold.end()
    assert first.daemon.profile() == "performance"
    # As systemd does.
    del first.host.files[f"/run/{UNIT}vm/chosen"]
    second.hold.end()
    assert first.daemon.profile() == "power-saver"


def test_what_a_person_chooses_meanwhile_is_what_counts() -> None:
    """Also where the program is killed after that."""
    held = forgetful()
    held.daemon.choose("balanced")
    held.hear()
    held.bus.close()
    again = Held(daemon=held.daemon, host=held.host)
    again.hold.take()
    again.hold.end()
    assert again.daemon.profile() == "balanced"


def test_what_the_daemon_has_forgotten_is_lost_where_another_program_holds_a_profile() -> None:
    """As the manual says."""
    held = forgetful()
    other = Client(held.daemon)
    other.call(NAMES[0], "HoldProfile", "power-saver", "why", "who")
    held.hold.end()
    other.close()
    assert held.daemon.profile() == "balanced"


@pytest.mark.parametrize(
    ("told", "profile_"),
    [('s "balanced"\naa{sv} 0\n', "balanced"), ('s "performance"\naa{sv} 1 3 "Reason"\n', None)],
)
def test_what_busctl_tells_of_the_daemon(told: str, profile_: str | None) -> None:
    class Asked(Kernel):
        def show(self, argv: list[str], seconds: float = 30) -> str:
            assert argv[-2:] == ["ActiveProfile", "ActiveProfileHolds"]
            return told

    assert chosen(Asked(), NAMES[0]) == profile_


@pytest.mark.parametrize(("told", "profile_"), [('s "balanced"\n', "balanced"), (None, "")])
def test_what_busctl_tells_of_tuned(told: str | None, profile_: str) -> None:
    class Asked(Kernel):
        def show(self, argv: list[str], seconds: float = 30) -> str:
            # power-profiles-daemon and tuned end each other.
            assert "--auto-start=no" in argv
            if told is None:
                raise HookError("busctl: Call failed: The name is not activatable")
            return told

    assert tuned(Asked()) == profile_


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(Daemon())
    yield made
    made.close()


def test_it_is_held_until_some_time_after_the_end_of_qemu(tmp_path: Path, client: Client) -> None:
    pidfile = tmp_path / "vm.pid"
    client.rules.append("member='ProfileReleased'")
    with subprocess.Popen(["sleep", "600"]) as qemu:
        waiting = waits(str(pidfile), client, grace=0.1)
        # Before libvirt has started QEMU; then while it has only made the file; then while it runs.
        for text in (None, "", f"{qemu.pid}\n"):
            if text is not None:
                pidfile.write_text(text)
            client.send(Signal("ProfileReleased", (1,)))
            next(waiting)
            client.signals()
        qemu.kill()
    assert list(waiting) == []


def test_it_is_held_no_more_when_its_vm_has_ended_or_never_came(
    tmp_path: Path, client: Client
) -> None:
    assert list(waits(str(tmp_path / "vm.pid"), client, starts=0)) == []
    # As it is found when this program is started again after both were killed.
    (tmp_path / "vm.pid").write_text("4194305\n")  # larger than any process's number
    assert list(waits(str(tmp_path / "vm.pid"), client)) == []


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        profile.ready()
        assert systemd.recv(100) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    profile.ready()


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        (NAMES[1], 0, ""),
        (
            "org.example.Another",
            NOT_HELD,
            "vm: governor: the power profile performance cannot be held: no daemon",
        ),
    ],
)
def test_the_whole_program(
    name: str, code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    monkeypatch.setattr(profile, "Bus", lambda: Client(Daemon(name)))
    monkeypatch.setattr(profile, "SystemdJournal", lambda **_: lines)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "vm.pid").write_text("4194305\n")
    assert profile.main([str(tmp_path / "vm.pid"), "performance"]) == code
    assert [line.startswith(told) for line in lines.warnings] == [True] * bool(told)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """A real message bus, which `Bus` connects to."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no dbus-daemon")
    path = tmp_path / "bus"
    (tmp_path / "bus.conf").write_text(CONFIG.format(path))
    words = ["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--nopidfile"]
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as daemon:
        try:
            assert until(path.exists, 60)
            yield daemon
        finally:
            daemon.kill()


@pytest.mark.usefixtures("bus")
def test_what_a_real_bus_says() -> None:
    ours = Bus()
    with pytest.raises(Refused) as refused:
        ours.call(NAMES[0], "HoldProfile", "performance", "why", "who")
    assert refused.value.name in UNKNOWN
    assert ours.call(BUS, "GetConnectionUnixUser", BUS) == os.getuid()
    ours.call(BUS, "AddMatch", "type='signal',member='NameOwnerChanged'")
    other = Bus()
    # A connection has its name from its first call on.
    other.call(BUS, "GetConnectionUnixUser", BUS)
    came: list[Signal] = []

    def has_come() -> bool:
        came.extend(one for one in ours.signals() if one.name == "NameOwnerChanged")
        return bool(came)

    assert until(has_come, 60)
    name, before, now = came[0].values
    assert (name, before) == (now, "")
    other.close()


def test_a_bus_that_ends(bus: "subprocess.Popen[bytes]") -> None:
    ours = Bus()
    ours.signals()
    bus.kill()
    bus.wait()
    with pytest.raises(HookError, match="the system bus: "):
        until(lambda: bool(ours.signals()) and False, 60)
    with pytest.raises(HookError, match="the system bus: open: "):
        Bus()
