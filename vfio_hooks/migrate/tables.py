"""The tables of vm.toml that do what a VM's scripts do."""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from vfio_hooks.migrate import Script
from vfio_hooks.migrate.verdict import Verdict
from vfio_hooks.plugins.governor import UNCHANGED
from vfio_hooks.shell.expansion import UNKNOWN

Value: TypeAlias = str | int | bool | list[str] | dict[str, int]
Table: TypeAlias = dict[str, Value]

_ORDER = (
    *("inhibit", "service", "display", "session", "sriov", "gpu", "mdev", "usb", "pci"),
    *("shm", "hugepages", "governor", "memory", "cpus", "irqs", "write", "process"),
)
_MULTIPLE = ("service", "sriov", "mdev", "shm", "write", "process", "usb")
_UNIQUE = {
    **{"service": "unit", "mdev": "uuid", "shm": "name", "write": "path", "process": "command"},
    "usb": "device",
}
_NUMBERS = (
    *("min_freq", "max_exit_latency", "vlan", "vf", "numvfs", "drop_caches", "ksm", "swappiness"),
    *("qos", "max_tx_rate", "min_tx_rate", "compaction_proactiveness"),
    *("zone_reclaim_mode", "stat_interval", "numa_balancing", "nmi_watchdog", "soft_watchdog"),
    "sched_rt_runtime_us",
)
_SWITCHES = ("boost", "d3cold", "trust", "spoofchk")
_UNITS = {"Hz": 0.001, "kHz": 1, "MHz": 1000, "GHz": 1000000}
# Commands that scripts run for each CPU of the host.
_EVERY_CPU = re.compile(
    r"^cpupower\b(?!.*\s(?:-c|--cpu)[ =](?!all))|"
    r"/(?:cpu|policy)(?:\[0-9\])?\*/|/(?:no_turbo|boost)$"
)


def tables(scripts: Sequence[Script]) -> tuple[dict[str, list[Table]], set[str]]:
    """The tables for what the scripts do, by facility; and the facilities that are left out,
    because a script that is only half understood may still do the same."""
    found: dict[str, list[Table]] = {}
    doubled = {one.table for script in scripts if not script.is_read for one in script.verdicts}
    every = [one for script in scripts for one in script.verdicts if one.table]
    for verdict in every:
        if verdict.kind == "table" or (verdict.kind == "mistake" and not verdict.options):
            made = _table(verdict)
            if made is not None and verdict.table not in doubled:
                _add(found.setdefault(verdict.table, []), verdict.table, made)
    # The power profile is for the whole host, whatever CPUs the other lines are about.
    governs = [
        one.command
        for one in every
        if (one.table, one.kind) == ("governor", "table")
        and "power_profile" not in dict(one.options)
    ]
    if "governor" in found and governs and all(map(_EVERY_CPU.search, governs)):
        found["governor"][0]["cpus"] = "all"
    if "governor" in found:
        # Without this key the table would set the governor "performance".
        found["governor"] = [{"governor": UNCHANGED, **found["governor"][0]}]
    if "session" in found and found["session"][0].get("modules") == ["nvidia"]:
        # Without this key they are unloaded, too, if the card has nvidia's driver.
        del found["session"][0]["modules"]
    if "session" in found and "gpu" not in found:
        found["gpu"] = [{}]
    ordered = {name: found[name] for name in _ORDER if name in found}
    return ordered, doubled - {""}


def toml(made: dict[str, list[Table]], comments: Iterable[str]) -> str:
    """The text of a vm.toml, with comments in front."""
    lines = [f"# {one}" for one in comments]
    for name, several in made.items():
        for table in several:
            lines += ["", f"[[{name}]]" if name in _MULTIPLE else f"[{name}]"]
            lines += [f"{key} = {_written(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _table(verdict: Verdict) -> Table | None:
    """The table from a verdict's options; None if it needs an option that is not known."""
    made: Table = {}
    for name, text in verdict.options:
        if UNKNOWN not in text:
            made[name] = _value(name, text)
    match verdict.table:
        case "memory" if "drop-caches" in verdict.command or "drop_caches=" in verdict.command:
            made.setdefault("drop_caches", 3)
        case "memory" if "compact" in verdict.command and "proactiveness" not in verdict.command:
            made["compact_memory"] = True
        case "governor" if "no_turbo" in verdict.command:
            made["boost"] = verdict.command.startswith("write 0")
        case "shm":
            return _shared(verdict.command)
        case "process" if verdict.user and not verdict.user.isdecimal():
            made["user"] = verdict.user
        case "sriov" if "pf" not in made:
            return {}
        case "gpu" if "bar_sizes" in made:
            # The file takes the size as an exponent: 2 to the power of that, in MiB.
            bar = re.search(r"resource(\d)_resize", verdict.command)
            made["bar_sizes"] = {bar[1]: 1 << int(verdict.options[0][1])} if bar else {}
    needed = _UNIQUE.get(verdict.table)
    return None if needed and needed not in made else made


def _shared(command: str) -> Table | None:
    path = next((word for word in shlex.split(command) if word.startswith("/dev/")), "")
    name = path.rpartition("/")[2]
    if not name or UNKNOWN in name:
        return None
    made: Table = {"name": name}
    owner = re.search(
        r"chown (?:-\S+ )*(?P<user>[a-z_][\w-]*)(?::(?P<group>[a-z_][\w-]*))?", command
    )
    if owner and owner["user"] != "root":
        made["owner"] = owner["user"]
    return made


def _value(name: str, text: str) -> Value:
    if name == "min_freq":
        frequency = re.fullmatch(r"([\d.]+?)([kMG]?Hz)?", text)
        assert frequency
        return round(float(frequency[1]) * _UNITS[frequency[2] or "kHz"])
    if name in _NUMBERS or (name == "value" and re.fullmatch(r"-?\d{1,18}", text)):
        return int(text)
    if name in _SWITCHES:
        return text in ("1", "on")
    return [text] if name == "modules" else text


def _add(several: list[Table], name: str, made: Table) -> None:
    """Add a table. Keys from several lines about one thing are combined, and the later of two lines
    counts, as in the script. A unit that is stopped and then started is restarted."""
    unique = _UNIQUE.get(name)
    for other in several:
        same = other.get(unique) == made.get(unique) if unique else name not in _MULTIPLE
        if name == "sriov":
            same = (other.get("pf"), other.get("vf")) == (made.get("pf"), made.get("vf"))
        if same:
            if (other.get("action"), made.get("action")) == ("stop", "start"):
                other["action"] = "restart"
            for key, value in made.items():
                known = other.setdefault(key, value)
                if name != "service" and not isinstance(value, list | dict):
                    other[key] = value
                if isinstance(known, list) and isinstance(value, list):
                    known += [one for one in value if one not in known]
                if isinstance(known, dict) and isinstance(value, dict):
                    known |= value | known
            return
    several.append(made)


def _written(value: Value) -> str:
    """A value as TOML, whose strings are like those of JSON except for DEL."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {one}' for key, one in value.items())} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
