"""CPU sets in the kernel's two notations: a list "0-3,8" and a hex mask "ff,ffffffff".

https://docs.kernel.org/admin-guide/cputopology.html and bitmap_parse in lib/bitmap-str.c.
"""

from __future__ import annotations

from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CpuSet = frozenset[int]
# A host has thousands of interrupts and few different masks.
_REMEMBERED = 512


@lru_cache(_REMEMBERED)
def parse_list(text: str) -> CpuSet:
    """The CPUs of a list: "0-3,8" is {0, 1, 2, 3, 8}, "" is none.

    Also libvirt's "^" notation: "0-3,^2" is {0, 1, 3}. Like libvirt, it takes away only what stands
    before it: "^2,0-3" is {0, 1, 2, 3}. Raises ValueError on anything else.
    """
    cpus: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.removeprefix("^").partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise ValueError(f"{text!r} is not a CPU list like 0-3,8")
        low, high = int(first), int(last) if dash else int(first)
        if low > high or high > 65535:
            raise ValueError(f"{part!r} is not a range of CPUs")
        change = cpus.difference_update if part.startswith("^") else cpus.update
        change(range(low, high + 1))
    return frozenset(cpus)


def format_list(cpus: Iterable[int]) -> str:
    """The kernel's own spelling of a set: ascending, runs of two or more joined by a dash."""
    return _format_list(frozenset(cpus))


@lru_cache(_REMEMBERED)
def _format_list(cpus: CpuSet) -> str:
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def parse_mask(text: str) -> CpuSet:
    """The CPUs of a hex mask; groups of 32 bits are separated by commas, "0x" is allowed."""
    digits = text.strip().removeprefix("0x").replace(",", "")
    try:
        bits = int(digits, 16)
    except ValueError:
        raise ValueError(f"{text!r} is not a hex CPU mask like ff,ffffffff") from None
    return frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def format_mask(cpus: Iterable[int]) -> str:
    """A hex mask with a comma between groups of 32 bits, as every mask file accepts it."""
    bits = 0
    for cpu in cpus:
        bits |= 1 << cpu
    groups = [f"{bits & 0xFFFFFFFF:08x}"]
    while bits := bits >> 32:
        groups.append(f"{bits & 0xFFFFFFFF:08x}")
    return ",".join(reversed(groups)).lstrip("0,") or "0"
