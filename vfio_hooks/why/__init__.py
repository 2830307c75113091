"""What the logs say about a VM's last start: their lines in the order of time, with the meaning of
the known ones. An explanation claims no more than its line says."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from vfio_hooks.record import record, replace
from vfio_hooks.why.known import KNOWN, Known
from vfio_hooks.why.lines import Line


@record
class Told:
    """A line, what is known about it, and how often it came. `known` is None for a line that is
    shown as it is. `meaning` and `remedy` name the devices and numbers of the line."""

    line: Line
    known: Known | None = None
    meaning: str = ""
    remedy: str = ""
    count: int = 1


def explain(lines: Iterable[Line], devices: Sequence[str] = ()) -> list[Told]:
    """The known lines, and the other lines that are about the VM: all of QEMU's, the hook's
    warnings, libvirt's errors, and the kernel's about one of `devices` (PCI addresses)."""
    found: dict[object, Told] = {}
    for line in lines:
        known, groups = recognise(line.text)
        if known is None and not _is_about(line, devices):
            continue
        # A card that fails says so a thousand times, for the same device.
        key = (known.name, groups.get("device")) if known else line.text
        if key in found:
            found[key] = replace(found[key], count=found[key].count + 1)
        elif known is None:
            found[key] = Told(line)
        else:
            meaning, remedy = _filled(known.meaning, groups), _filled(known.remedy, groups)
            found[key] = Told(line, known, meaning, remedy)
    return list(found.values())


def recognise(text: str) -> tuple[Known | None, dict[str, str]]:
    """What is known about a line, and the parts of it that the texts may name."""
    for known, pattern in _patterns():
        if found := pattern.search(text):
            return known, {name: part for name, part in found.groupdict().items() if part}
    return None, {}


@cache
def _patterns() -> tuple[tuple[Known, re.Pattern[str]], ...]:
    return tuple((known, re.compile(known.pattern)) for known in KNOWN)


def _filled(text: str, groups: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: groups.get(found[1], f"the {found[1]}"), text)


def _is_about(line: Line, devices: Sequence[str]) -> bool:
    if line.source == "kernel":
        return any(name in line.text for name in _names(devices))
    return line.source == "qemu" or line.is_warning


def _names(devices: Sequence[str]) -> Iterator[str]:
    for address in devices:
        yield address
        # Intel's IOMMU names devices without the domain.
        yield f"[{address.partition(':')[2]}]"
