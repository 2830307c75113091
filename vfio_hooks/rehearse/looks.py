"""Looks at the state of a real host, without what changes by itself.

A host in use changes by itself: programs make shared memory, and irqbalance moves interrupts.
Whatever changes like that before anything is started is not blamed on the VM later.
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
"""What is said about a VM's journal."""
_KINDS = ("irq", "line")
"""Kinds that are left out completely if one of their things changes by itself, because the next
time it will be another one."""


class Looks:
    """Looks at a host. `stay` are the VM's files in /dev/shm; other files there come and go."""

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
        """Count everything that has changed since as changing by itself."""
        self.moving = self.changes(before, self.take())

    def changes(self, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
        """How each thing that counts differs, in words, by its name."""
        kinds = {_kind(key) for key in self.moving} & {*_KINDS}
        return {
            key: how
            for key, how in changes(before, after).items()
            if key not in self.moving
            and _kind(key) not in kinds
            and not (_comes_and_goes(key, before, after) and key not in self._stay)
        }

    def settled(self, expected: State, seconds: float) -> State:
        """The state, as soon as it is the expected one, or after so many seconds."""
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
    """The layout of the monitors of each session that can be asked."""
    found: State = {}
    for one in graphical(host):
        with suppress(HookError):
            _, screen = screen_of(host, one, 10)
            found[f"layout of {one.user}, session {one.id}"] = str(screen.layout)
    return found


def _kind(key: str) -> str:
    return key.partition(" ")[0]


def _comes_and_goes(key: str, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether it is only in one of the two, and of a kind that programs and people make and end."""
    return (key in before) != (key in after) and _kind(key) in ("shm", "layout")
