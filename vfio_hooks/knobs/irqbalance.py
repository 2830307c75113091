"""The CPUs that irqbalance spreads interrupts over."""

from __future__ import annotations

import re

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.cpu import possible
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list, parse_mask
from vfio_hooks.host.irq import BALANCER
from vfio_hooks.knobs.cpu_set import CpuSetKnob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

_ASKED = f"{BALANCER}/vfio-hooks"
_UNKNOWN = "?"
"""What it was asked for by a process that died at that."""


@record
class IrqBalance(CpuSetKnob):
    """The CPUs that one running irqbalance has not banned, as a list; told and asked through its
    control socket, whose name has its process in it. irqbalance(1), "API".

    CPUs that are offline count as well, or the set would change with each that comes or goes.

    It takes note at once and acts, and shows the new set, only in its next round, ten seconds
    later as a rule. So what it was asked for last is kept beside its socket, together with what
    it showed then: as long as it shows that, it has not come round yet. irqbalance's own folder
    is the place, as both end with it.
    """

    socket: str
    kind = "irqbalance"
    atomic = False
    is_read_back = False

    @property
    def key(self) -> str:
        return self.socket

    def read(self, host: Host) -> str:
        shown = self._shown(host)
        socket, _, rest = (host.maybe(_ASKED) or "").partition(" ")
        asked, _, before = rest.partition(" from ")
        return asked if socket == self.socket and shown in (asked, before) else shown

    def _write(self, host: WritableHost, value: str) -> None:
        banned = format_list(possible(host) - parse_list(value))
        shown = self._shown(host)
        # Should we die before the second note, the first says that nobody knows what was asked.
        host.store(_ASKED, f"{self.socket} {_UNKNOWN} from {shown}\n")
        # NULL gives the choice back to its configuration, which had banned none.
        host.ask(self.socket, f"settings cpus {banned or 'NULL'}")
        if value == shown:
            host.remove(_ASKED)
        else:
            host.store(_ASKED, f"{self.socket} {value} from {shown}\n")

    def same(self, live: str, value: str, host: Host) -> bool:
        return _UNKNOWN not in (live, value) and super().same(live, value, host)

    def _shown(self, host: Host) -> str:
        return format_list(possible(host) - self._banned(host))

    def _banned(self, host: Host) -> CpuSet:
        if not host.exists(self.socket):
            raise Gone(f"the irqbalance of {self.socket} has ended")
        answer = host.ask(self.socket, "setup")
        found = re.search(r"\bBANNED ([0-9a-f,]+)", answer)
        if not found:
            raise HookError(f"{self.socket}: irqbalance answered {answer[:60]!r} to setup")
        return parse_mask(found[1])
