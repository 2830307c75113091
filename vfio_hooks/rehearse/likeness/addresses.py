"""Replaces PCI addresses in people's texts by those of another host."""

import re
from collections.abc import Iterator, Mapping

_ADDRESS = re.compile(
    r"(?<![0-9a-fA-F:.])"
    r"(?:([0-9a-fA-F]{4})([:_]))?([0-9a-fA-F]{2})([:_])([0-9a-fA-F]{2})([._])([0-7])"
    r"(?!:?[0-9a-fA-F_])"
)
"""As in "0000:04:00.1", "04:00.1" and libvirt's "pci_0000_04_00_1"."""


def named(text: str) -> frozenset[str]:
    """The addresses in a text, in full."""
    return frozenset(_full(found) for found in _found(text))


def translated(text: str, addresses: Mapping[str, str]) -> str:
    """A text with other addresses, each in the notation that it had."""

    def other(found: re.Match[str]) -> str:
        new = addresses.get(_full(found)) if _is_whole(found) else None
        if new is None:
            return found[0]
        domain, bus, slot, number = re.split("[:.]", new)
        start = f"{domain}{found[2]}" if found[1] else ""
        return f"{start}{bus}{found[4]}{slot}{found[6]}{number}"

    return _ADDRESS.sub(other, text)


def _found(text: str) -> Iterator[re.Match[str]]:
    return filter(_is_whole, _ADDRESS.finditer(text))


def _is_whole(found: re.Match[str]) -> bool:
    """Whether the separators belong together: all as in sysfs, or all as in libvirt's names."""
    separators = (found[2] or ":", found[4], found[6])
    return separators in ((":", ":", "."), ("_", "_", "_"))


def _full(found: re.Match[str]) -> str:
    return f"{found[1] or '0000'}:{found[3]}:{found[5]}.{found[7]}".lower()
