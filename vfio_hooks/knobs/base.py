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
    """Whether the undo of a write that was cut off writes even if the value is right already:
    there may be more to do than the value shows, or a program may still be about to change it. A
    second write does no harm."""
    is_brief: ClassVar[bool] = False
    """Whether such a thing may end by itself at any time, so that it is no fault if it is gone."""
    is_read_back: ClassVar[bool] = True
    """Whether a write has failed if `read` shows another value after it. If False, `_write` itself
    checks its result."""
    left: ClassVar[str] = "cannot be undone: it stays"
    """What people are told in place of an undo if the change is made only once (`Once`)."""

    begins_as: ClassVar[str] = ""
    """The key of another value, which this one begins with when its object appears; "" for none."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The name of the value, the same for all VMs that claim it; usually a path."""

    @property
    def owner(self) -> str:
        """What messages say that a VM has, if it has this to itself."""
        return self.key

    @property
    def lag(self) -> float:
        """How many seconds it may take until the host shows a write."""
        return 0

    @property
    def advice(self) -> str:
        """A hint for people if the host shows another value after a write."""
        return ""

    @property
    def told(self) -> str:
        """What people see in place of the key and its values; "" to show these."""
        return ""

    @property
    def undo_text(self) -> str:
        """How the undo of something without a value is described to people."""
        return "undone"

    @abstractmethod
    def read(self, host: Host) -> str:
        """The value now. Raises Gone if there is no such thing (any more), or HookError."""

    def ready(self, host: Host) -> None:
        """Wait, with a deadline, for whatever has to let go of this before we or libvirt can change
        it. Raises a HookError that names what does not let go."""

    def write(self, host: WritableHost, value: str) -> None:
        """Set the value, and return when the host shows it. Raises HookError, after which the host
        may show anything: the engine puts the old value back. Raises Immovable, with nothing
        changed, if the kernel never lets this value be changed."""
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
        """The part of `write` before the check whether the host shows the value."""

    def took(self, live: str, value: str, host: Host) -> bool:
        """Whether a write of `value` has worked if `read` shows `live` right after it."""
        return self.same(live, value, host)

    def foresee(self, host: Host, value: str) -> Mapping[str, str | None]:
        """What files and links of the host will show when this has `value`, as far as plans are
        made from them. By path: a text, or the last part of a link's target, None for no link."""
        return {}

    def same(self, live: str, value: str, host: Host) -> bool:
        """Whether `live` is what a write of `value` left, though it may read differently by now."""
        return live == value

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        """Whether `live` is a value that libvirt or the guest left on a knob that was held for
        them, and not somebody else's change. `value` is what the claim set, or None if that was
        left to libvirt."""
        return False

    def is_back(self, host: Host, base: str) -> bool:
        """Whether something that a started guest was given is the host's again, as after `virsh
        detach-device`. `base` is the host's own value."""
        return False

    def mover(self, host: Host) -> str:
        """A program that runs on this host and whose job it is to change this value, or ""."""
        return ""

    def begun(self, value: str, host: Host) -> str:
        """What this shows if its object appeared while the value of `begins_as` was `value`."""
        return value

    def has_begun(self, live: str, value: str, absent: str, host: Host) -> bool:
        """Whether this may have begun as `live` when `begins_as` had `value`, while the CPUs in
        `absent`, or those that are offline now, were offline."""
        return self.same(live, value, host)

    def own(self, live: str, host: Host) -> str:
        """The host's own value, if nobody has claimed this and it is `live` now."""
        return live

    def is_ours(self, live: str, base: str, shares: Sequence[Share], host: Host) -> bool:
        """Whether these claims alone can explain the value `live`, without anybody else."""
        known = known_values(base, shares, self.is_reset)
        return any(self.same(live, value, host) for value in chain(known, self.resets(host)))

    def lost(self, value: str, host: Host) -> str:
        """The CPUs of a value, as a list, that the kernel forgets because they are offline now."""
        return ""

    def resets(self, host: Host) -> Iterable[str]:
        """What the kernel itself may have set this to, whatever it was before."""
        return ()

    def died(self, host: Host) -> str:
        """The service that should still run because of this, but has died; "" for none. Raises
        HookError."""
        return ""

    def followers(self, host: Host) -> Iterable[Knob]:
        """Other knobs that may have begun as this one."""
        return ()

    def shows(self, value: str) -> str:
        """A value for people."""
        return shown(value)

    def lends(self, value: str) -> str:
        """How a value that is held for libvirt, which may change it, is shown to people."""
        return f"{self.shows(value)}, for libvirt to change"


@record
class FunctionKnob(Knob):
    """A knob of the PCI function at `address`."""

    address: str

    @property
    def owner(self) -> str:
        return self.address
