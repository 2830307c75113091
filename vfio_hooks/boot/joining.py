"""Words that the kernel accepts only once: the needs of several VMs become one word."""

import re
from collections.abc import Callable, Iterable, Sequence

from vfio_hooks.boot import Need, Wanted
from vfio_hooks.host import softdep
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.record import record, replace

PAGES = "hugepagesz=1G hugepages="
"""The kernel ignores a second count of the same size, and a second list of isolcpus."""

ON_COMMAND_LINE = r"vfio[-_]pci\."
"""How an option of vfio-pci begins on the kernel's command line."""

ADDED = "--add"
"""The reason for a word that the user has given."""


@record
class Joined:
    """How words of one kind become one: their beginning, the pattern that finds them in a text (its
    first group is the value), which of several counts (0: the first, -1: the last), the parts of a
    value, and the value of all of them together."""

    prefix: str
    found: str
    counts: int
    parts: Callable[[str], frozenset[str]]
    value: Callable[[Iterable[str]], str]


def _cpus(value: str) -> frozenset[str]:
    """The CPUs of a list; none if it is not a list, as a user may have written anything there."""
    try:
        return frozenset(map(str, parse_list(value)))
    except ValueError:
        return frozenset()


_LISTS = (
    Joined(
        "isolcpus=managed_irq,",
        r"isolcpus=(?:[a-z_]+,)*managed_irq,(?:[a-z_]+,)*([0-9,-]+)",
        0,
        _cpus,
        lambda parts: format_list(map(int, parts)),
    ),
    # modprobe passes on all of them, those of the kernel's command line as the last.
    Joined(
        "options vfio-pci ids=",
        rf"(?:options vfio[-_]pci(?: \S+)* |{ON_COMMAND_LINE})ids=(\S+)",
        -1,
        lambda value: frozenset(value.split(",")),
        lambda parts: ",".join(sorted(parts)),
    ),
)
_ONE_GIB = r"(?:default_)?hugepagesz=1GB? hugepages=(\d+)"


def extended(wanted: Sequence[Wanted], one: Wanted) -> tuple[Wanted, ...]:
    """The VMs' needs with those of one more VM. If it is among them already, its needs of now
    count, together with what was added for it before."""
    known = next((other for other in wanted if other.vm == one.vm), None)
    if known is not None:
        added = (need for need in known.needs if need.why == ADDED and need not in one.needs)
        one = replace(one, needs=(*one.needs, *added))
    if not one.needs:
        return tuple(other for other in wanted if other.vm != one.vm)
    return (*(one if other.vm == one.vm else other for other in wanted), *(() if known else (one,)))


def together(wanted: Sequence[Wanted]) -> list[Need]:
    """All that is needed for these VMs, each need once, in order."""
    found: dict[str, Need] = {}
    for need in (need for one in wanted for need in one.needs):
        prefix = _prefix(need.text)
        known = found.get(key := prefix or need.text)
        found[key] = _join(prefix, known, need) if known else need
    if PAGES in found:
        text = f"{PAGES}{_pages(wanted)}"
        found[PAGES] = Need(text, found[PAGES].why, instead=found[PAGES].instead)
    return list(found.values())


def is_given(text: str, given: Iterable[str]) -> bool:
    """Whether one of these texts has a need's words, or more of the same kind."""
    if module := soft(text):
        return softdep.is_vfio_first(_said(softdep.first_of(given, module)))
    prefix = _prefix(text)
    value = text[len(prefix) :]
    if (count := pages(text)) is not None:
        return any(int(found[1]) >= count for found in _all(_ONE_GIB, given))
    for kind in _LISTS:
        if prefix == kind.prefix:
            found = _all(kind.found, given)
            return bool(found) and kind.parts(found[kind.counts][1]) >= kind.parts(value)
    return any(text == one or text in one.split() for one in given)


def other(text: str, given: Iterable[str]) -> str:
    """Words in one of these texts with which ours cannot be combined, being of the same kind, or an
    install line, which a softdep would switch off; "" for none."""
    if module := soft(text):
        lines = list(given)
        return softdep.first_of(lines, module) or softdep.install_of(lines, module)
    prefix = _prefix(text)
    for kind in _LISTS:
        if prefix == kind.prefix and (found := _all(kind.found, given)):
            return found[kind.counts][0]
    found = _all(_ONE_GIB, given) if prefix == PAGES else []
    return found[0][0] if found else ""


def beside(text: str, instead: str) -> str:
    """What the user has to write in place of `instead`, the words that `other` found. A list keeps
    its values, which another VM may need, and gets ours in addition. A count becomes ours."""
    if module := soft(text):
        return f"softdep {module} {softdep.with_vfio_first(_said(instead))}"
    prefix = _prefix(text)
    for kind in _LISTS:
        if kind.prefix == prefix and (found := re.fullmatch(kind.found, instead)):
            values = (found[1], text.removeprefix(prefix))
            return instead[: found.start(1)] + kind.value(_parts(kind, values))
    return text


def pages(text: str) -> int | None:
    """How many pages of 1 GiB a need is for; None if it is for something else."""
    count = text.removeprefix(PAGES)
    return int(count) if count != text and re.fullmatch("[0-9]{1,9}", count) else None


def soft(text: str) -> str:
    """The module of a softdep, of which modprobe takes the first one alone; "" where it is none."""
    words = text.split()
    return words[1] if len(words) > 2 and words[0] == "softdep" else ""


def _said(line: str) -> str:
    """What a softdep says of its module."""
    return " ".join(line.split()[2:])


def _all(pattern: str, given: Iterable[str]) -> list[re.Match[str]]:
    return [found for text in given for found in re.finditer(rf"(?<!\S){pattern}", text)]


def _prefix(text: str) -> str:
    """The beginning of a kind of words that become one; "" if it is none."""
    if pages(text) is not None:
        return PAGES
    for kind in _LISTS:
        if text.startswith(kind.prefix) and kind.parts(text.removeprefix(kind.prefix)):
            return kind.prefix
    return ""


def _join(prefix: str, one: Need, another: Need) -> Need:
    text = one.text
    for kind in _LISTS:
        if kind.prefix == prefix:
            values = (need.text.removeprefix(prefix) for need in (one, another))
            text = prefix + kind.value(_parts(kind, values))
    why = one.why if another.why in one.why else f"{one.why}; {another.why}"
    return Need(text, why, one.is_modprobe, one.instead or another.instead)


def _parts(kind: Joined, values: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*map(kind.parts, values))


def _pages(wanted: Sequence[Wanted]) -> int:
    """The most pages that VMs which can run together need."""
    if not wanted:
        return 0
    first, *others = wanted
    beside = [one for one in others if not {*one.devices} & {*first.devices}]
    own = sum(pages(need.text) or 0 for need in first.needs)
    return max(_pages(others), own + _pages(beside))
