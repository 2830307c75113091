"""Changes of a domain's XML as data: what advice shows, and what `check --fix` applies in place.

An edit may be applied to another copy of the XML than the one that was examined. So it looks for
its element again, and changes nothing if that is gone.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vfio_hooks.domain import pci_functions
from vfio_hooks.record import field, record

if TYPE_CHECKING:
    from lxml.etree import _Element

# https://libvirt.org/formatdomain.html has no order; this is the one that libvirt writes.
_ORDER = """
    name uuid genid title description metadata maxMemory memory currentMemory blkiotune memtune
    memoryBacking vcpu vcpus iothreads iothreadids cputune numatune resource sysinfo bootloader
    bootloader_args os idmap features cpu clock on_poweroff on_reboot on_crash pm perf devices
    seclabel
""".split()
_OWNER = re.compile(r"devices/(disk|hostdev)\(([^()]*)\)/?")


@record
class Edit:
    """A change of the element at `path`, which is made if it is missing.

    A part of the path may have a condition: "clock/timer[@name='hpet']". A path that begins with
    "devices/disk(vda)" or "devices/hostdev(0000:01:00.0)" is inside the disk with that target, or
    the device with that host address. The empty path is <domain> itself.

    `attributes` are set; None removes one. `text` is the element's text. `only` empties the element
    first. `gone` removes all elements at the path instead.
    """

    path: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    text: str | None = None
    only: bool = False
    gone: bool = False

    def apply(self, root: "_Element") -> None:
        """Change the domain."""
        start, path = _start(root, self.path)
        if start is None:
            return
        if self.gone:
            for one in start.findall(path):
                remove(one)
            return
        element = reach(start, path) if path else start
        if self.only:
            _empty(element)
        if self.text is not None:
            element.text = self.text
        for name, value in self.attributes.items():
            if value is not None:
                element.set(name, value)
            elif name in element.attrib:
                del element.attrib[name]


def put(path: str, **attributes: str) -> Edit:
    """The edit that gives the element at a path these attributes."""
    return Edit(path, attributes)


def drop(path: str) -> Edit:
    """The edit that removes the elements at a path."""
    return Edit(path, gone=True)


def owner(path: str) -> tuple[str, str, str] | None:
    """The parts of "devices/disk(vda)/driver": tag, key and the path inside; None for other
    paths."""
    found = _OWNER.match(path)
    return (found[1], found[2], path[found.end() :]) if found else None


def _start(root: "_Element", path: str) -> "tuple[_Element | None, str]":
    """The element at which a path begins, and the rest of the path."""
    found = owner(path)
    if found is None:
        return root, path
    tag, key, rest = found
    return next(_owners(root, tag, key), None), rest


def _owners(root: "_Element", tag: str, key: str) -> "Iterator[_Element]":
    if tag == "disk":
        for disk in root.iterfind("devices/disk"):
            target = disk.find("target")
            if target is not None and target.get("dev", "?") == key:
                yield disk
    else:
        yield from (one for one, function in pci_functions(root) if function.address == key)


def _empty(element: "_Element") -> None:
    for below in list(element):
        remove(below)
    element.attrib.clear()


def reach(root: "_Element", path: str) -> "_Element":
    """The first element at a path below `root`; missing elements are added."""
    element = root
    for part in path.split("/"):
        below = element.find(part)
        if below is None:
            below = add(element, part.partition("[")[0])
            for name, value in keys(part):
                below.set(name, value)
        element = below
    return element


def keys(part: str) -> list[tuple[str, str]]:
    """The condition in a part of a path: for "timer[@name='tsc']", name and tsc."""
    return re.findall(r"\[@([\w:]+)='([^']*)'\]", part)


def add(parent: "_Element", tag: str) -> "_Element":
    """A new element: after the last of its kind, else where libvirt would write it."""
    new = parent.makeelement(tag)
    _insert(parent, _position(parent, tag), new)
    return new


def remove(element: "_Element") -> None:
    """Remove an element, with its line."""
    parent = element.getparent()
    if parent is None:
        return
    before = element.getprevious()
    if element.getnext() is None:
        # The white space at the end of the last element goes to the one before it.
        if before is not None:
            before.tail = element.tail
        else:
            parent.text = None
    element.tail = None
    parent.remove(element)


def _position(parent: "_Element", tag: str) -> int:
    alike = parent.findall(tag)
    if alike:
        return parent.index(alike[-1]) + 1
    if parent.getparent() is None and tag in _ORDER:
        later = _ORDER[_ORDER.index(tag) + 1 :]
        for position, child in enumerate(parent):
            if child.tag in later:
                return position
    return len(parent)


def _insert(parent: "_Element", position: int, new: "_Element") -> None:
    children = list(parent)
    if not children:
        outer = _margin(parent)
        if outer is not None:
            parent.text, new.tail = outer + _unit(parent), outer
    elif position < len(children):
        # All children have the same white space before them, so it can be added after the new one.
        new.tail = parent.text if position == 0 else children[position - 1].tail
    else:
        new.tail = children[-1].tail
        children[-1].tail = parent.text
    parent.insert(position, new)


def _margin(element: "_Element") -> str | None:
    """The line break and white space before an element, None if it does not begin a line."""
    before, parent = element.getprevious(), element.getparent()
    if parent is None:
        return "\n"
    text = before.tail if before is not None else parent.text
    return text if text and "\n" in text and not text.strip() else None


def _unit(element: "_Element") -> str:
    """One level of indentation of the document."""
    text = element.getroottree().getroot().text or ""
    return text.rpartition("\n")[2] if not text.strip() else "  "
