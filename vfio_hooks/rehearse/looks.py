"""What a look at a real host sees, and what of it is nobody's doing.

A host in use changes by itself: programs make shared memory, and irqbalance moves interrupts. What
is seen to do so before anything is started is not held against the VM later.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from vfio_hooks.config import Config
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, units
from vfio_hooks.host.sessions import graphical
from vfio_hooks.plugins import service, session
from vfio_hooks.plugins.display import screen_of
from vfio_hooks.rehearse import SERVICE
from vfio_hooks.rehearse.compared import changes
from vfio_hooks.rehearse.observed import State, collect
from vfio_hooks.wait import until

_CHANGES = "changes that are not put back; vfio-hooks status"
"""What is told of a VM's journal."""
_KINDS = ("irq", "line")
"""What is left out as a whole where one of its kind moves by itself: the next time it is another
one."""


class Looks:
    """Looks at a host. `stay` are the files in /dev/shm that are the VM's; others come and go."""

    def __init__(self, stay: frozenset[str], look: Callable[[], State]) -> None:
        self._stay = stay
        self._look = look
        self.moving: dict[str, str] = {}
        """What changes by itself, in words, by its name."""

    def take(self) -> State:
        ours = SERVICE.removesuffix(".service")
        return {
            key: _CHANGES if key.endswith(".journal") else value
            for key, value in self._look().items()
            if ours not in key
        }

    def learn(self, before: State) -> None:
        """Take whatever has changed since for what changes by itself."""
        self.moving = self.changes(before, self.take())

    def changes(self, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
        """In words, how each thing differs that counts, by its name."""
        kinds = {_kind(key) for key in self.moving} & {*_KINDS}
        return {
            key: how
            for key, how in changes(before, after).items()
            if key not in self.moving
            and _kind(key) not in kinds
            and not (_comes_and_goes(key, before, after) and key not in self._stay)
        }

    def settled(self, expected: State, seconds: float) -> State:
        """The state, as soon as it is the one expected, or after some seconds."""
        state = self.take()

        def is_there() -> bool:
            nonlocal state
            state = self.take()
            return not self.changes(expected, state)

        if self.changes(expected, state):
            until(is_there, seconds)
        return state


def of(host: Host, domain: Domain, config: Config) -> Looks:
    """Looks at this host, for a VM with this configuration."""
    stay = frozenset(one.path.replace("/dev/shm/", "shm ") for one in domain.shared)
    names = list(_named(config))
    return Looks(stay, lambda: {**collect(), **_units(host, names), **_layouts(host)})


def _named(config: Config) -> Iterator[str]:
    """The units that vm.toml names."""
    for table in config.tables:
        if isinstance(table.options, service.Options):
            yield table.options.name
        elif isinstance(table.options, session.Options) and table.options.manager:
            yield table.options.manager


def _units(host: Host, names: Iterable[str]) -> State:
    found: State = {}
    for name in names:
        try:
            found[f"unit {name}"] = units.state(host, name).active
        except HookError as error:
            found[f"unit {name}"] = f"({error.problem})"
    return found


def _layouts(host: Host) -> State:
    """The layout of each monitor, of the sessions that can be asked."""
    found: State = {}
    for one in graphical(host):
        with suppress(HookError):
            _, screen = screen_of(host, one, 10)
            found[f"layout of {one.user}, session {one.id}"] = str(screen.layout)
    return found


def _kind(key: str) -> str:
    return key.partition(" ")[0]


def _comes_and_goes(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether it is there only once, and is of a kind that programs and people make and end."""
    return (key in before) != (key in after) and _kind(key) in ("shm", "layout")
