"""`vfio-hooks verify --trace` and `--compare`: how quiet a VM's CPUs are, measured and printed."""

import json

from vfio_hooks.cli.terminal import clean, paint, say, say_json
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import Host
from vfio_hooks.record import asdict
from vfio_hooks.trace.histogram import svg
from vfio_hooks.trace.report import (
    PERCENTILES,
    Culprit,
    OfCpu,
    Report,
    culprits,
    histogram,
    of_cpus,
)
from vfio_hooks.trace.timeline import stalls
from vfio_hooks.trace.tracefs import trace
from vfio_hooks.verify import own_cpus

_MOST = 12
"""Culprits that are shown, the worst; --json has all of them."""
_PERCENTILES = " ".join(f"{f'{part:g} %':>8}" for part in PERCENTILES)


def measure(host: Host, vm: str, seconds: float) -> Report:
    """Trace a VM's CPUs for so many seconds. Raises HookError for a VM that does not run, and for a
    kernel that cannot trace."""
    cpus, vcpus = own_cpus(host, vm)
    recording = trace(cpus, seconds)
    found = stalls(recording.lines, recording.senders, vcpus)
    return Report(
        vm,
        recording.seconds,
        recording.cost,
        recording.lost,
        of_cpus(found, cpus, recording.seconds),
        culprits(found, cpus),
        histogram(found),
    )


def tell(report: Report, as_json: bool, picture: str | None) -> int:
    if picture:
        _save(picture, svg(report))
    if as_json:
        say_json(asdict(report))
        return 0
    say(paint(f"{'CPU':>4} {'stalls':>7} {'time':>8} {_PERCENTILES} {'longest':>10}  by", "bold"))
    for one in report.cpus:
        say(_of_cpu(one))
    say()
    for culprit in report.culprits[:_MOST]:
        _say_culprit(culprit, report.seconds)
    if len(report.culprits) > _MOST:
        say(f"and {len(report.culprits) - _MOST} more; --json shows all")
    say(f"{report.seconds:.1f} s; measuring took {report.cost:.1%} of one CPU")
    if report.lost:
        say(paint(f"{report.lost} events were lost; measure for a shorter time", "yellow"))
    return 0


def compare(before: str, after: str) -> int:
    """Print two saved reports side by side. Raises HookError for a file that is not a report."""
    first, second = (_load(path) for path in (before, after))
    say(paint(f"{'':44} {clean(before)[-14:]:>14} {clean(after)[-14:]:>14}", "bold"))
    for title, one, two in (
        ("stalls a second", _rate(first), _rate(second)),
        ("time a second, µs", _time(first), _time(second)),
        ("longest, µs", _longest(first), _longest(second)),
    ):
        say(f"{title:44} {one:14.1f} {two:14.1f}")
    for kind, name in _names(first, second):
        told = [_of(report, kind, name) for report in (first, second)]
        say(f"{clean(f'{kind} {name}')[:44]:44} {told[0]:>14} {told[1]:>14}")
    return 0


def _names(first: Report, second: Report) -> list[tuple[str, str]]:
    """The worst of both, by kind and name."""
    names: dict[tuple[str, str], float] = {}
    for one in (*first.culprits, *second.culprits):
        names[one.kind, one.name] = max(one.total, names.get((one.kind, one.name), 0.0))
    return sorted(names, key=lambda name: -names[name])[:_MOST]


def _of(report: Report, kind: str, name: str) -> str:
    for one in report.culprits:
        if (one.kind, one.name) == (kind, name):
            return f"{one.total / report.seconds:.0f} µs/s"
    return "-"


def _rate(report: Report) -> float:
    return sum(one.count for one in report.cpus) / report.seconds


def _time(report: Report) -> float:
    return sum(one.share for one in report.cpus) * 1e6


def _longest(report: Report) -> float:
    return max((one.longest for one in report.cpus), default=0.0)


def _of_cpu(one: OfCpu) -> str:
    percentiles = " ".join(f"{each:8.0f}" for each in one.percentiles)
    line = f"{one.cpu:4} {one.count:7} {one.share:8.3%} {percentiles} {one.longest:7.0f} µs"
    return f"{line}  {clean(one.culprit)}" if one.culprit else line


def _say_culprit(one: Culprit, seconds: float) -> None:
    often = f"{one.count / seconds:.0f}/s, {one.total / seconds:.0f} µs/s"
    often += f", up to {one.longest:.0f} µs"
    say(f"{paint(one.kind, 'bold')} {clean(one.name)} on CPUs {one.cpus}: {often}")
    if one.senders:
        say(f"sent by {clean(', '.join(one.senders[:5]))}", 2)
    if one.remedy:
        say(f"can be avoided with {one.remedy}", 2)


def _load(path: str) -> Report:
    try:
        with open(path, encoding="utf-8") as file:
            made = json.load(file)
        cpus = tuple(OfCpu(**one) for one in made["cpus"])
        named = tuple(Culprit(**one) for one in made["culprits"])
        return Report(**{**made, "cpus": cpus, "culprits": named})
    except OSError as error:
        raise HookError(f"{path}: cannot be read: {reason(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise HookError(
            f"{path}: not a measurement", "save one: vfio-hooks verify VM --trace 10 --json > FILE"
        ) from None


def _save(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None
