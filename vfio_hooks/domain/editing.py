"""Changes of a domain's XML in place, laid out as their surroundings are.

A fix may get another copy of the XML than the one that was looked at, so each finds its elements
again, and changes nothing where they are gone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

Fix = Callable[["_Element"], None]
# https://libvirt.org/formatdomain.html has no order; this is the one that libvirt writes.
_ORDER = """
    name uuid genid title description metadata maxMemory memory currentMemory blkiotune memtune
    memoryBacking vcpu vcpus iothreads iothreadids cputune numatune resource sysinfo bootloader
    bootloader_args os idmap features cpu clock on_poweroff on_reboot on_crash pm perf devices
    seclabel
""".split()


def put(path: str, **attributes: str) -> Fix:
    """A fix that gives the element at a path these attributes; what is not there is made.

    The last part of the path may be told apart from others of its kind: "cpu/feature[@name='a']".
    """

    def fix(root: "_Element") -> None:
        element = reach(root, path)
        for name, value in attributes.items():
            element.set(name, value)

    return fix


def both(*fixes: Fix) -> Fix:
    """One fix after the other."""

    def fix(root: "_Element") -> None:
        for one in fixes:
            one(root)

    return fix


def reach(root: "_Element", path: str) -> "_Element":
    """The first element at a path below `root`; what is missing of it is added."""
    element = root
    for part in path.split("/"):
        below = element.find(part)
        if below is None:
            tag, _, key = part.partition("[@")
            below = add(element, tag)
            if key:
                name, _, value = key.removesuffix("]").partition("=")
                below.set(name, value.strip("'"))
        element = below
    return element


def add(parent: "_Element", tag: str) -> "_Element":
    """A new element: after the last of its kind, else where libvirt would write it."""
    from lxml import etree

    new = etree.Element(tag)
    _insert(parent, _position(parent, tag), new)
    return new


def remove(element: "_Element") -> None:
    """Take an element away, with its line."""
    parent = element.getparent()
    if parent is None:
        return
    before = element.getprevious()
    if element.getnext() is None:
        # What was the last one's end is now that of the one before.
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
        # The white space before each child is alike, so the new one's is put behind it.
        new.tail = parent.text if position == 0 else children[position - 1].tail
    else:
        new.tail = children[-1].tail
        children[-1].tail = parent.text
    parent.insert(position, new)


def _margin(element: "_Element") -> str | None:
    """The line break and white space before an element, None where it does not begin a line."""
    before, parent = element.getprevious(), element.getparent()
    if parent is None:
        return "\n"
    text = before.tail if before is not None else parent.text
    return text if text and "\n" in text and not text.strip() else None


def _unit(element: "_Element") -> str:
    """One level of indentation of the document."""
    text = element.getroottree().getroot().text or ""
    return text.rpartition("\n")[2] if not text.strip() else "  "
