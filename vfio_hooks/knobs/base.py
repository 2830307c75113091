"""What every knob can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain

from vfio_hooks.errors import HookError
from vfio_hooks.record import record
from vfio_hooks.sharing import known_values, shown
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import ClassVar

    from vfio_hooks.host import Host, WritableHost
    from vfio_hooks.sharing import Share


NO_DRIVER = "no driver"
"""The value of a device that no driver has."""


@record
class Knob(ABC):
    """One thing of the host with one value. Subclasses are records of plain JSON
    types, and are listed in KINDS."""

    kind: ClassVar[str]
    """The name in the journal. Never reused for another meaning."""
    atomic: ClassVar[bool] = True
    """Whether a write that was cut off left either the old value or the new one."""
    is_reset: ClassVar[bool] = False
    """Whether the kernel itself may put back what one VM or all have changed."""
    repeated: ClassVar[bool] = False
    """Whether the undo of a write that was cut off writes again what the value shows already: there
    may be more to do than it shows, or a program that was to do it is still on its way. Writing it
    twice does no harm."""
    is_brief: ClassVar[bool] = False
    """Whether such a thing ends by itself at any time, so that it is no fault when it is gone."""
    is_read_back: ClassVar[bool] = True
    """Whether a write has failed when `read` shows something else after it. Where that would be
    wrong, what the write has to come to is its own to check."""
    left: ClassVar[str] = "cannot be undone: it stays"
    """What becomes of it where it is done once, for people."""

    begins_as: ClassVar[str] = ""
    """The key of another value, which this one has when it comes up; "" for none."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What is owned, the same for every VM that wants it; a path as a rule."""

    @property
    def owner(self) -> str:
        """What a VM is said to have that has this to itself."""
        return self.key

    @property
    def lag(self) -> float:
        """How many seconds the host may take to show a write."""
        return 0

    @property
    def advice(self) -> str:
        """What to do where the host shows something else."""
        return ""

    @property
    def told(self) -> str:
        """What people are shown of a change in place of the key and the values; "" for these."""
        return ""

    @property
    def undo_text(self) -> str:
        """What people are shown of the undo of what has no value."""
        return "undone"

    @abstractmethod
    def read(self, host: Host) -> str:
        """The value now. Raises Gone when there is no such thing (any more)."""

    def ready(self, host: Host) -> None:
        """Wait, with a deadline, for whatever has to let go of this before it can be changed, by
        us or by libvirt. Raises HookError naming what does not."""

    def write(self, host: WritableHost, value: str) -> None:
        """Make it so, and return when the host shows it. Raises HookError, whatever the host shows
        then: the engine puts back what it was. Raises Immovable, having changed nothing, where the
        kernel never lets this one be changed."""
        self._write(host, value)
        if not self.is_read_back:
            return
        now = ""

        def is_taken() -> bool:
            nonlocal now
            now = self.read(host)
            return self.took(now, value, host)

        if not until(is_taken, self.lag):
            raise HookError(
                f"{self.key}: {value!r} was asked for, but the host shows {now!r}", self.advice
            )

    @abstractmethod
    def _write(self, host: WritableHost, value: str) -> None:
        """What `write` does before it looks whether the host shows the value."""

    def took(self, live: str, value: str, host: Host) -> bool:
        """Whether it is `live` right after a write of `value` that did what it should."""
        return self.same(live, value, host)

    def foresee(self, host: Host, value: str) -> Mapping[str, str | None]:
        """What files and links of the host that a plan is made from show when this has `value`, by
        path: a text, or the last part of what a link points to, None for no link."""
        return {}

    def same(self, live: str, value: str, host: Host) -> bool:
        """Whether `live` is what a write of `value` left, though it may by now read otherwise."""
        return live == value

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        """Whether `live` is a value that libvirt or the guest left behind on a knob that was
        held for them, and not somebody else's change. `value` is what the claim set, None where
        that was left to libvirt."""
        return False

    def is_back(self, host: Host, base: str) -> bool:
        """Whether what was lent to a guest that has started is the host's again, as after `virsh
        detach-device`. `base` is the host's own value."""
        return False

    def mover(self, host: Host) -> str:
        """The program that runs on this host and whose work it is to change this value, or ""."""
        return ""

    def begun(self, value: str, host: Host) -> str:
        """What this shows that came up when what it begins as had that value."""
        return value

    def has_begun(self, live: str, value: str, absent: str, host: Host) -> bool:
        """Whether `live` may be what this showed when it came up with that value, while these CPUs
        or those that are offline now were absent."""
        return self.same(live, value, host)

    def own(self, live: str, host: Host) -> str:
        """The host's own value, where nobody has claimed it and it is `live` now."""
        return live

    def is_ours(self, live: str, base: str, shares: Sequence[Share], host: Host) -> bool:
        """Whether it may be `live` with these claims on it and nobody else's hand in it."""
        known = known_values(base, shares, self.is_reset)
        return any(self.same(live, value, host) for value in chain(known, self.resets(host)))

    def lost(self, value: str, host: Host) -> str:
        """The CPUs of a value, as a list, that the kernel forgets because they are offline now."""
        return ""

    def resets(self, host: Host) -> Iterable[str]:
        """What the kernel itself may have set this to, whatever it was before."""
        return ()

    def died(self, host: Host) -> str:
        """The service that this left running and that does not run any more; "" for none. Raises
        HookError."""
        return ""

    def followers(self, host: Host) -> Iterable[Knob]:
        """What may have come up with this value."""
        return ()

    def shows(self, value: str) -> str:
        """A value for people."""
        return shown(value)

    def lends(self, value: str) -> str:
        """What people are told of a value that is held for libvirt, which may change it."""
        return f"{self.shows(value)}, for libvirt to change"


@record
class FunctionKnob(Knob):
    """A knob of the PCI function at `address`."""

    address: str

    @property
    def owner(self) -> str:
        return self.address
