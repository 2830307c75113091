"""Findings for people and for programs."""

import textwrap
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, get_args

from vfio_hooks.cli.terminal import Style, clean, paint, say, say_json

if TYPE_CHECKING:
    from vfio_hooks.check import Finding

_WIDTH = 100
_COLORS: dict[str, Style] = {"error": "red", "warning": "yellow", "hint": "green"}
_COMMANDS = tuple(
    f"{name} " for name in "apt chmod echo mkdir mv rm sudo systemctl virsh vfio-hooks".split()
)
_TITLES = {"host": "Host", "hook": "Hook", "domain": "Domain"}


def show(
    found: "Sequence[Finding]",
    vm: str | None,
    silenced: Collection[str],
    advice: Sequence[str] = (),
    how: str = "",
) -> None:
    """For people: with `advice` on the guest's inside, and `how` what can be fixed is."""
    for area, group in groupby(found, lambda finding: finding.rule.area):
        name = f" {clean(vm)}" if vm and area == "domain" else ""
        say(paint(f"{_TITLES[area]}{name}", "bold"))
        for _, same in groupby(group, lambda finding: (finding.level, finding.seen.text)):
            _show(list(same))
        say()
    if advice:
        say(paint("In the guest, where this cannot look", "bold"))
        for one in advice:
            _wrapped("  - ", one)
        say()
    say(_summary(found, silenced))
    if how and (count := sum(finding.seen.fix is not None for finding in found)):
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
                    "do": finding.seen.do,
                    "fixable": finding.seen.fix is not None,
                }
                for finding in found
            ],
            "guest": list(advice),
            "silenced": sorted(silenced),
        }
    )


def _show(same: "Sequence[Finding]") -> None:
    """A finding, or several of which the same is told: that they could not be looked at."""
    rule, seen, level = same[0].rule, same[0].seen, same[0].level
    names = ", ".join(dict.fromkeys(finding.rule.name for finding in same))
    doubt = "" if rule.sure == "certain" else f" ({rule.sure})"
    say(f"{paint(f'{level:8}', _COLORS[level])}{paint(names, 'bold')}{doubt}", 1)
    _wrapped("      ", seen.text)
    if len(same) == 1:
        _wrapped("      why: ", f"{rule.why} [{rule.source}]", "dim")
    for number, line in enumerate(seen.do.splitlines()):
        head = "      do:  " if number == 0 else "           "
        if line.startswith(_COMMANDS):
            # Half a command does something else.
            say(head + clean(line))
        else:
            _wrapped(head, line)


def _wrapped(head: str, text: str, style: Style | None = None) -> None:
    """A paragraph; a word that is too long for a line, such as a command, stays whole."""
    lines = textwrap.wrap(
        clean(text),
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        say(paint(line, style) if style else line)


def _summary(found: "Sequence[Finding]", silenced: Collection[str]) -> str:
    from vfio_hooks.check.rule import Level

    counts = Counter(finding.level for finding in found)
    parts = [
        f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}"
        for level in get_args(Level)
        if counts[level]
    ]
    told = ", ".join(parts) or "nothing found"
    return told + (f"; silenced: {', '.join(sorted(silenced))}" if silenced else "")
