"""A host as it is while one plan is made."""

from __future__ import annotations

from vfio_hooks.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from vfio_hooks.host.shared_memory import Shared

    _T = TypeVar("_T")


class View(Host):
    """Reads each file, link and folder of a host once, and then always gives the same answer.

    It is only for planning: right before a value is changed, it is read from the `WritableHost`
    itself. Commands and daemons are asked every time, so code that waits for a change has to ask
    these, and must not wait for a file.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host.root or "/")
        self.seen = host.seen
        self._host = host
        self._texts: dict[str, str | OSError] = {}
        self._names: dict[str, list[str]] = {}
        self._exists: dict[str, bool] = {}
        self._links: dict[str, str | None] = {}

    def read(self, name: str) -> str:
        text = _once(self._texts, name, self._read)
        if isinstance(text, OSError):
            raise text.with_traceback(None)
        return text

    def expect(self, shown: Mapping[str, str | None]) -> None:
        """From now on, show files and links as they are going to be, as a knob foresees it."""
        self._texts.update((name, text) for name, text in shown.items() if text is not None)
        self._links.update(shown)

    def names(self, folder: str) -> list[str]:
        found = _once(self._names, folder, self._host.names)
        return list(found)

    def exists(self, name: str) -> bool:
        return _once(self._exists, name, self._host.exists)

    def link(self, name: str) -> str | None:
        return _once(self._links, name, self._host.link)

    def look(self, name: str) -> Shared | None:
        return self._host.look(name)

    def show(self, argv: list[str], seconds: float = 30) -> str:
        return self._host.show(argv, seconds)

    def ask(self, name: str, text: str, seconds: float = 10) -> str:
        return self._host.ask(name, text, seconds)

    def _read(self, name: str) -> str | OSError:
        try:
            return self._host.read(name)
        except OSError as error:
            return error


def _once(known: dict[str, _T], name: str, look: Callable[[str], _T]) -> _T:
    if name not in known:
        known[name] = look(name)
    return known[name]
