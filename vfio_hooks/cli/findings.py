"""Findings for people and for programs."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, get_args

from vfio_hooks.cli.terminal import Style, clean, paint, say, say_json, wrapped
from vfio_hooks.plural import counted

if TYPE_CHECKING:
    from vfio_hooks.check import Finding

_COLORS: dict[str, Style] = {"error": "red", "warning": "yellow", "hint": "green"}
_COMMANDS = tuple(
    f"{name} " for name in "apt chmod echo mkdir mv rm sudo systemctl virsh vfio-hooks".split()
)
_AT_MOST = 2
"""Lines of advice that are shown without --why."""


def show(
    found: "Sequence[Finding]",
    silenced: Collection[str],
    advice: Sequence[str] = (),
    how: str = "",
    whole: bool = False,
) -> None:
    """Print findings for people, worst first. `advice` is about the inside of the guest; `how` is
    the command that fixes what can be fixed. If `whole`, reasons and their sources are printed."""
    first = dict[str, str]()
    for _, group in groupby(found, lambda finding: (finding.level, finding.seen.text)):
        same = list(group)
        name = first.setdefault(same[0].seen.advice, same[0].rule.name)
        _show(same, whole, "" if name == same[0].rule.name else name)
    if found:
        say()
    if advice and whole:
        say(paint("In the guest, which check cannot look into", "bold"))
        for one in advice:
            _wrapped("  - ", one)
        say()
    say(_summary(found, silenced))
    if not whole and (found or advice):
        inside = ", and what to look for in the guest" if advice else ""
        say(f"--why shows the reasons and their sources{inside}")
    if how and (count := sum(finding.seen.is_fixable for finding in found)):
        say(f"{count} of these: {how}")


def show_json(
    found: "Sequence[Finding]", vm: str | None, silenced: Collection[str], advice: Sequence[str]
) -> None:
    say_json(
        {
            "vm": vm,
            "findings": [
                {
                    "name": finding.rule.name,
                    "area": finding.rule.area,
                    "level": finding.level,
                    "sure": finding.rule.sure,
                    "text": finding.seen.text,
                    "why": finding.rule.why,
                    "source": finding.rule.source,
                    "do": finding.seen.advice,
                    "fixable": finding.seen.is_fixable,
                }
                for finding in found
            ],
            "guest": list(advice),
            "silenced": sorted(silenced),
        }
    )


def _show(same: "Sequence[Finding]", whole: bool, like: str) -> None:
    """Print a finding, or several that could not be checked for the same reason. Advice of several
    lines that was printed before, for the finding `like`, is only repeated if `whole`."""
    rule, seen, level = same[0].rule, same[0].seen, same[0].level
    names = ", ".join(dict.fromkeys(finding.rule.name for finding in same))
    doubt = "" if rule.sure == "certain" else f" ({rule.sure})"
    if whole:
        say(f"{paint(f'{level:8}', _COLORS[level])}{paint(names, 'bold')}{doubt}", 1)
        _wrapped(" " * 8, seen.text)
    else:
        _headed(level, f"{names}{doubt}: {seen.text}")
    lines = seen.advice.splitlines()
    if like and len(lines) > 1 and not whole:
        lines = [f"the same as for {like}"]
    for number, line in enumerate(lines if whole else lines[:_AT_MOST]):
        head = "        do:  " if number == 0 else "             "
        if line.startswith(_COMMANDS):
            # Half a command does something else.
            say(head + clean(line))
        else:
            _wrapped(head, line)
    if whole and len(same) == 1:
        _wrapped("        why: ", f"{rule.why} [{rule.source}]", "dim")


def _wrapped(head: str, text: str, style: Style | None = None) -> None:
    """Print a paragraph."""
    for line in wrapped(head, text):
        say(paint(line, style) if style else line)


def _headed(level: str, text: str) -> None:
    """Print a paragraph that begins with a level, of which only the level is coloured."""
    head = f"{level:8}"
    first, *more = wrapped(head, text)
    say(paint(head, _COLORS[level]) + first[len(head) :])
    for line in more:
        say(line)


def _summary(found: "Sequence[Finding]", silenced: Collection[str]) -> str:
    from vfio_hooks.placement.kinds import Level

    counts = Counter(finding.level for finding in found)
    parts = [counted(counts[level], level) for level in get_args(Level) if counts[level]]
    told = ", ".join(parts) or "nothing found"
    return told + (f"; silenced: {', '.join(sorted(silenced))}" if silenced else "")
