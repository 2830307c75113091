"""A rule, and what it finds."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from vfio_hooks.domain import Domain
from vfio_hooks.domain.editing import Edit
from vfio_hooks.domain.shown import shown
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import Topology, topology
from vfio_hooks.paths import Paths
from vfio_hooks.placement import Fault, faults, room
from vfio_hooks.placement.kinds import Level, Sure
from vfio_hooks.record import field, record

if TYPE_CHECKING:
    from lxml.etree import _Element

Area = Literal["host", "hook", "domain"]


@record
class Guest:
    """The domain that is checked: what this program reads from it, and its whole XML."""

    domain: Domain
    xml: "_Element"
    running: bool = False


@record
class Patient:
    """Everything that a rule may look at.

    `guest` is None if only the host is checked; rules of the area "domain" are then left out.
    `tables` are the facilities in the VM's vm.toml, with their options: what they change while the
    VM runs needs no advice. `others` are the other domains that are defined, as far as they are
    known. `refusals` are the reasons why the VM would not start now, by its plan. `stopped` are the
    services that the vm.toml stops while the VM runs.
    """

    host: Host
    paths: Paths
    guest: Guest | None = None
    tables: Mapping[str, object] = field(default_factory=dict)
    others: tuple[Domain, ...] = ()
    refusals: tuple[HookError, ...] = ()
    stopped: tuple[str, ...] = ()

    @cached_property
    def topology(self) -> Topology:
        """The host's, read once for all rules. Raises HookError for a host that shows no CPU."""
        return topology(self.host)

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the guest's place. Raises HookError as `topology` does."""
        if self.guest is None:
            return ()
        return tuple(faults(room(self.host, self.topology, self.guest.domain, self.others)))


@record
class Seen:
    """One finding: `text` says what was seen and on which object, `do` gives the exact line to add
    or the command to type. `edits` improve the domain's XML. `check --fix` does not make those that
    are marked `by_hand`, because the guest has to be prepared for them."""

    text: str
    do: str = ""
    edits: tuple[Edit, ...] = ()
    by_hand: bool = False

    @property
    def is_fixable(self) -> bool:
        """Whether `check --fix` mends it."""
        return bool(self.edits) and not self.by_hand

    @property
    def advice(self) -> str:
        """What to do: the edits as XML, then the text in `do`."""
        return "\n".join(filter(None, (shown(self.edits), self.do)))


@record
class Rule:
    """`name` is stable: vm.toml silences it, scripts look for it, the manual lists it. `why`
    is a sentence, `source` the document or manual page that it comes from."""

    name: str
    area: Area
    level: Level
    why: str
    source: str
    look: Callable[[Patient], Iterable[Seen]]
    sure: Sure = "certain"


def rule(
    name: str, area: Area, level: Level, *, why: str, source: str, sure: Sure = "certain"
) -> Callable[[Callable[[Patient], Iterable[Seen]]], Rule]:
    """Make a rule of the function that looks."""
    return lambda look: Rule(name, area, level, why, source, look, sure)
