"""A power profile that is held for a VM: see profile.py."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.host import WritableHost
from vfio_hooks.host.power_profiles import NAMES, TUNED, UNIT, none
from vfio_hooks.services.bus import BUS, UNKNOWN, Refused, Signal

APPLIED = 20.0
"""For how many seconds tuned may take to set a profile; a few, even on a host that is busy."""
_CHOSEN = "chosen"


class Speaker(Protocol):
    """The part of a Bus that is needed here."""

    def fileno(self) -> int: ...

    def call(self, service: str, method: str, *values: str | int) -> int: ...

    def signals(self) -> list[Signal]: ...

    def close(self) -> None: ...


@dataclass
class Memory:
    """The profile that a person had chosen before any VM held one. Each VM's program notes it in
    its own `folder`, which systemd removes when the program has ended for good. A program that was
    killed and is started again finds it there, and so does the program of another VM."""

    host: WritableHost
    folder: str

    def known(self) -> str | None:
        """What this VM's program noted, or else another one that still holds a profile."""
        others = [name for name in self.host.names("/run") if name.startswith(UNIT)]
        for folder in (self.folder, *(f"/run/{name}" for name in others)):
            if found := self.host.maybe(f"{folder}/{_CHOSEN}"):
                return found
        return None

    def keep(self, profile: str | None) -> None:
        """Note it for this VM; None: nothing is known. Raises HookError."""
        self.host.store(f"{self.folder}/{_CHOSEN}", profile or "")


@dataclass
class Hold:
    """A profile that is held for a VM. `chosen`, `choose` and `tuned` are those of
    power_profiles."""

    bus: Speaker
    profile: str
    vm: str
    warn: Callable[[str], None]
    chosen: Callable[[str], str | None]
    choose: Callable[[str, str], None]
    tuned: Callable[[], str]
    memory: Memory
    cookie: int | None = field(default=None, init=False)
    name: str = field(default="", init=False)
    is_gone: bool = field(default=False, init=False)

    def take(self) -> None:
        """Hold the profile at whichever daemon there is. Raises HookError."""
        self._listen(TUNED, "profile_changed")
        for name in NAMES:
            self._listen(name, "ProfileReleased")
            self._listen(BUS, "NameOwnerChanged", f",arg0='{name}'")
            try:
                with self._applied():
                    self.memory.keep(self._before(name))
                    self._ask(name)
            except Refused as error:
                if error.name not in UNKNOWN:
                    raise
            else:
                return
        raise none()

    def _listen(self, sender: str, signal: str, more: str = "") -> None:
        rule = f"type='signal',sender='{sender}',member='{signal}'{more}"
        self.bus.call(BUS, "AddMatch", rule)

    def _before(self, name: str) -> str | None:
        """What a person had chosen before any VM held a profile; None if that is not known, because
        another program held one."""
        try:
            return self.memory.known() or self.chosen(name)
        except Interrupted:
            raise
        except HookError:
            return None

    def end(self) -> None:
        """Release the profile. Raises HookError.

        The daemon (seen with 0.12 and 0.30) then goes back to "balanced" if nobody has chosen a
        profile since it was started, although it started with the one chosen before. So that one is
        chosen again here, unless somebody else holds a profile: a choice would end their hold.
        """
        cookie, self.cookie = self.cookie, None
        # The bus would start a daemon that somebody has stopped, and that one knows no hold.
        if cookie is None or self.is_gone:
            return
        with self._applied():
            self.bus.call(self.name, "ReleaseProfile", cookie)
            before = self.memory.known()
            if before is not None and self.chosen(self.name) not in (None, before):
                self.choose(self.name, before)

    def hear(self, heard: Signal) -> None:
        """React to a signal: a person may choose another profile, which ends all holds, and a
        daemon that is restarted, as when its package is upgraded, knows no holds."""
        if heard.name == "ProfileReleased" and heard.values == (self.cookie,):
            self.cookie = None
            self.memory.keep(None)
            self.warn(f"{self.profile} is no longer held: somebody has chosen another profile")
        elif heard.name == "NameOwnerChanged" and self.cookie is not None:
            name, before, owner = heard.values
            if name == self.name:
                # Our own question may have started it: then there was none before.
                if owner and (before or self.is_gone):
                    self._again()
                self.is_gone = not owner

    @contextmanager
    def _applied(self) -> Iterator[None]:
        """Do what the block says, and wait until tuned has set the profile that comes of it.

        tuned-ppd (seen with 2.25) answers before tuned begins to set a profile. What tuned then
        finds it takes for the host's own, and puts it back with its next profile and at its end.
        So it must not find what a VM has set by then.
        """
        before = self.tuned()
        yield
        if (wanted := self.tuned()) in (before, ""):
            return
        deadline = time.monotonic() + APPLIED
        # Some may have come while a call waited for its answer.
        while wanted not in [self._heard(signal) for signal in self.bus.signals()]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.bus], [], [], left)[0]:
                late = f"tuned did not set its profile {wanted} within {APPLIED:g} s"
                self.warn(f"{late}; journalctl -u tuned")
                return

    def _heard(self, signal: Signal) -> str | int | None:
        """React to a signal. Returns the profile that tuned has set, if it says that."""
        self.hear(signal)
        return signal.values[0] if signal.name == "profile_changed" else None

    def _again(self) -> None:
        # The number of a hold at the old daemon may be another program's at the new one.
        self.cookie = None
        try:
            self._ask(self.name)
        except Interrupted:
            raise
        except HookError as error:
            self.warn(f"{self.profile} is no longer held: {error}")

    def _ask(self, name: str) -> None:
        why = f"VM {self.vm} runs"
        self.cookie = self.bus.call(name, "HoldProfile", self.profile, why, "vfio-hooks")
        self.name = name
