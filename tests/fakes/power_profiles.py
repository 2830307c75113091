"""power-profiles-daemon on a message bus, and a talk that the real one can be asked for, too.

As seen with 0.12 (which has the older name alone) and 0.30.
"""

import socket
from collections.abc import Callable, Iterable

from vfio_hooks.errors import HookError
from vfio_hooks.host.power_profiles import NAMES
from vfio_hooks.services.bus import BUS, UNKNOWN, Refused, Signal
from vfio_hooks.services.hold import Speaker
from vfio_hooks.wait import until

INVALID = f"{BUS}.Error.InvalidArgs"
TALK = [
    "held: performance",
    "power-saver wins: power-saver",
    "its client is gone: performance",
    f"warp: {INVALID}",
    f"nobody: {UNKNOWN[0]}",
    "a person chooses: power-saver",
    "told: ProfileReleased of our cookie",
    "restarted: another owner",
    "as chosen: power-saver",
    "held again: performance",
    "let go, after the restart: balanced",
    "we are gone: power-saver",
]
TUNED_TALK = [*TALK]
"""What tuned-ppd 2.25 answers: it forgets no choice, and its error has another name."""
TUNED_TALK[3] = f"warp: {BUS}.Python.dbus.exceptions.DBusException"
TUNED_TALK[-2] = "let go, after the restart: power-saver"


class Daemon:
    """The daemon, and the bus that it is on."""

    def __init__(self, name: str = NAMES[0]) -> None:
        self.name = name
        self.chosen = "balanced"
        self._base = "balanced"
        self.holds: dict[int, tuple[Client, str]] = {}
        self.clients: list[Client] = []
        self.refuses = False
        self._last = 0

    def profile(self) -> str:
        """What is active; of several held ones the one that saves power."""
        held = {profile for _, profile in self.holds.values()}
        return min(held, key=["power-saver", "performance"].index, default=self.chosen)

    def free(self, name: str) -> str | None:
        """The profile that is active, by this name, if nobody holds one."""
        if name != self.name:
            raise HookError(f"busctl: {name} is not known")
        return None if self.holds else self.chosen

    def choose(self, profile: str) -> None:
        """Choose a profile, as a person does on the desktop's panel."""
        self._base = profile
        for cookie, (client, _) in self.holds.items():
            client.send(Signal("ProfileReleased", (cookie,)))
        self.holds.clear()
        self.chosen = profile

    def restart(self) -> None:
        """The profile that was chosen is active again, but no hold gives it back."""
        self.holds.clear()
        self._base = "balanced"
        for old, new in ((":1.7", ""), ("", ":1.8")):
            for client in self.clients:
                client.send(Signal("NameOwnerChanged", (self.name, old, new)))

    def release(self, cookies: Iterable[int]) -> None:
        for cookie in [*cookies]:
            del self.holds[cookie]
            if not self.holds:
                self.chosen = self._base

    def hold(self, client: "Client", profile: str) -> int:
        if self.refuses or profile not in ("power-saver", "performance"):
            raise Refused(INVALID, f"{self.name}: HoldProfile: no such profile")
        self._last += 1
        self.holds[self._last] = client, profile
        return self._last


class Client:
    """A connection, with what `Bus` has."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.rules: list[str] = []
        self._news: list[Signal] = []
        self._ours, self._buss = socket.socketpair()
        daemon.clients.append(self)

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self.daemon.clients.remove(self)
        holds = self.daemon.holds.items()
        self.daemon.release([cookie for cookie, one in holds if one[0] is self])
        for end in (self._ours, self._buss):
            end.close()

    def send(self, signal: Signal) -> None:
        if any(f"member='{signal.name}'" in rule for rule in self.rules):
            self._news.append(signal)
            self._buss.send(b".")

    def call(self, service: str, method: str, *values: str | int) -> int:
        if service == BUS and method == "AddMatch":
            self.rules += map(str, values)
            return 0
        if service != self.daemon.name:
            raise Refused(UNKNOWN[0], f"{service}: {method}: the name is not known")
        if method == "ReleaseProfile":
            self.daemon.release(map(int, values))
            return 0
        assert method == "HoldProfile"
        return self.daemon.hold(self, str(values[0]))

    def signals(self) -> list[Signal]:
        found, self._news = self._news, []
        if found:
            self._ours.recv(len(found))
        return found


def talk(
    name: str,
    connect: Callable[[], Speaker],
    profile: Callable[[], str],
    choose: Callable[[str], None],
    restart: Callable[[], None],
) -> list[str]:
    """What comes of holding, choosing and restarting: TALK. The daemon is on its own with `name`;
    connections have a `close`."""
    told = []

    def shows(title: str, expected: str) -> None:
        until(lambda: profile() == expected, 30)
        told.append(f"{title}: {profile()}")

    def refused(title: str, service: str, wanted: str) -> None:
        try:
            ours.call(service, "HoldProfile", wanted, "why", "who")
        except Refused as error:
            told.append(f"{title}: {error.name}")

    def heard(signal: str, is_it: Callable[[Signal], bool]) -> bool:
        def has_come() -> bool:
            return any(one.name == signal and is_it(one) for one in ours.signals())

        return until(has_come, 30)

    ours, other = connect(), connect()
    ours.call(BUS, "AddMatch", f"type='signal',sender='{name}',member='ProfileReleased'")
    rule = f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{name}'"
    ours.call(BUS, "AddMatch", rule)
    cookie = ours.call(name, "HoldProfile", "performance", "why", "who")
    shows("held", "performance")
    other.call(name, "HoldProfile", "power-saver", "why", "who")
    shows("power-saver wins", "power-saver")
    other.close()
    shows("its client is gone", "performance")
    refused("warp", name, "warp")
    refused("nobody", f"{name}.Nobody", "performance")
    choose("power-saver")
    shows("a person chooses", "power-saver")
    # tuned-ppd tells it for each of its two names, and also that of the other one.
    if heard("ProfileReleased", lambda one: one.values == (cookie,)):
        told.append("told: ProfileReleased of our cookie")
    restart()
    # Its old owner goes first.
    if heard("NameOwnerChanged", lambda one: one.values[0] == name and one.values[-1] != ""):
        told.append("restarted: another owner")
    shows("as chosen", "power-saver")
    cookie = ours.call(name, "HoldProfile", "performance", "why", "who")
    shows("held again", "performance")
    ours.call(name, "ReleaseProfile", cookie)
    until(lambda: profile() != "performance", 30)
    told.append(f"let go, after the restart: {profile()}")
    choose("power-saver")
    ours.call(name, "HoldProfile", "performance", "why", "who")
    ours.close()
    shows("we are gone", "power-saver")
    return told
