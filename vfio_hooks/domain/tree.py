"""The elements of a domain's XML, by the standard library's expat: all that an event needs.

Code that edits XML, and keeps its comments, uses lxml (text.py). The rest of this package only uses
what both kinds of elements have, `Element`.
"""

from __future__ import annotations

from vfio_hooks.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol, Self, TypeVar, overload

    class Element(Protocol):
        """An element of either reader. A path is `a/b//c[@name='value']`; a tag with a namespace
        is "{namespace}tag", and `text` is what comes before the first element in it."""

        @property
        def tag(self) -> str: ...
        @property
        def text(self) -> str | None: ...
        @overload
        def get(self, key: str, /) -> str | None: ...
        @overload
        def get(self, key: str, default: str, /) -> str: ...
        def find(self, path: str, /) -> Self | None: ...
        def findtext(self, path: str, /) -> str | None: ...
        def iterfind(self, path: str, /) -> Iterator[Self]: ...

    OneElement = TypeVar("OneElement", bound=Element)


LARGEST = 16 << 20
"""No domain has this many bytes of XML."""
_DEEPEST = 256
"""No domain has this many elements in one another; lxml has the same limit."""


class Node:
    """An `Element` that can only be read."""

    __slots__ = ("attributes", "below", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.text: str | None = None
        self.below: list[Node] = []

    def get(self, key: str, default: Any = None, /) -> Any:
        return self.attributes.get(key, default)

    def find(self, path: str, /) -> Node | None:
        return next(self.iterfind(path), None)

    def findtext(self, path: str, /) -> str | None:
        found = self.find(path)
        return None if found is None else found.text or ""

    def iterfind(self, path: str, /) -> Iterator[Node]:
        step, rest = _split(path)
        nodes = iter(self.below)
        if not step:
            # The path was "//..." before its first slash went.
            step, rest = _split(rest)
            nodes = self._descendants()
        tag, _, condition = step.partition("[@")
        name, _, value = condition.removesuffix("']").partition("='")
        for node in nodes:
            if node.tag == tag and (not name or node.attributes.get(name) == value):
                if rest:
                    yield from node.iterfind(rest)
                else:
                    yield node

    def _descendants(self) -> Iterator[Node]:
        for node in self.below:
            yield node
            yield from node._descendants()


def _split(path: str) -> tuple[str, str]:
    """The first step of a path and the rest of it. A namespace may contain slashes."""
    end = path.find("/", path.find("}") + 1 if path.startswith("{") else 0)
    return (path, "") if end < 0 else (path[:end], path[end + 1 :])


def read(xml: bytes) -> Node:
    """The <domain>. Raises HookError for XML that is no domain, is too large, or has a document
    type, which could define entities."""
    from pyexpat import ExpatError, ParserCreate

    refuse_large(xml)
    builder = _Builder()
    parser = ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.ProcessingInstructionHandler = builder.instruction
    parser.StartDoctypeDeclHandler = refuse_type
    try:
        parser.Parse(xml, True)
    except (ExpatError, LookupError, ValueError) as error:
        # The latter two for an encoding that Python does not have, or cannot use here.
        raise unreadable(error) from None
    root = builder.root
    refuse_other(root.tag)
    return root


class _Builder:
    """Makes elements from expat's events."""

    def __init__(self) -> None:
        self._open = [Node("", {})]
        self._texts: list[str] | None = None

    @property
    def root(self) -> Node:
        return self._open[0].below[0]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._end_text()
        node = Node(_name(tag), {_name(name): value for name, value in attributes.items()})
        self._open[-1].below.append(node)
        self._open.append(node)
        if len(self._open) > _DEEPEST + 2:
            raise HookError(f"the domain XML has more than {_DEEPEST} nested elements")
        self._texts = []

    def end(self, tag: str) -> None:
        self._end_text()
        self._open.pop()

    def data(self, text: str) -> None:
        if self._texts is not None:
            self._texts.append(text)

    def instruction(self, target: str, text: str) -> None:
        # For lxml it is an element, too.
        self._end_text()

    def _end_text(self) -> None:
        if self._texts:
            self._open[-1].text = "".join(self._texts)
        self._texts = None


def _name(of: str) -> str:
    return "{" + of if "}" in of else of


def refuse_large(xml: bytes) -> None:
    if len(xml) > LARGEST:
        raise HookError(f"the domain XML is larger than {LARGEST >> 20} MiB")


def refuse_type(*_: object) -> None:
    raise HookError("the domain XML has a document type", "libvirt never writes one")


def refuse_other(tag: str) -> None:
    if tag != "domain":
        raise HookError(f"the XML is a <{tag}>, not a <domain>")


def unreadable(error: Exception | str) -> HookError:
    return HookError(f"the domain XML cannot be read: {error}")
