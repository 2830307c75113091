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
"""Stands for a request that nobody knows, because the process that made it was killed."""


@record
class IrqBalance(CpuSetKnob):
    """The CPUs that a running irqbalance has not banned, as a list. They are read and set through
    its control socket, whose name has the pid of irqbalance in it. irqbalance(1), "API".

    CPUs that are offline count as well. Otherwise the set would change whenever one comes or goes.

    irqbalance accepts a new set at once, but uses and shows it only in its next round, usually ten
    seconds later. So the last request is kept in a file next to the socket, with the set that
    irqbalance showed then: as long as it still shows that set, its next round is not over. The file
    is in irqbalance's own folder, because both disappear together.
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
        # If we are killed before the second note, the first says that the request is not known.
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
