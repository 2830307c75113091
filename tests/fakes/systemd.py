"""What systemd does: units that run or do not, and AllowedCPUs with the kernel's cpusets.

As seen with systemd 252 and 257: the cpuset controller is there while any unit needs it; clearing
a property leaves the unit's cpuset as it was, for the kernel lets none with tasks be emptied.
"""

import errno
from typing import Protocol

from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import format_list, parse_list

ROOT = "/sys/fs/cgroup"
UNITS = ("init.scope", "system.slice", "user.slice", "machine.slice")
ALL = frozenset(range(8))
DROP_IN = "/run/systemd/system.control/{}.d/50-AllowedCPUs.conf"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    allowed: dict[str, str]
    """AllowedCPUs of the units that have it set."""
    units: dict[str, str]
    """ActiveState of the units that there are, "masked", or "broken" for one that cannot run."""


def boot(kernel: Files) -> None:
    """Put cgroup v2 with systemd into a kernel."""
    kernel.files["/run/systemd/system/placeholder"] = "\n"
    kernel.files[f"{ROOT}/cgroup.controllers"] = "cpuset cpu io memory pids\n"
    for unit in UNITS:
        kernel.files[f"{ROOT}/{unit}/cgroup.procs"] = "1\n"


def set_property(kernel: Files, unit: str, assignment: str) -> None:
    """systemctl set-property --runtime UNIT AllowedCPUs=..."""
    value = assignment.removeprefix("AllowedCPUs=")
    kernel.files[DROP_IN.format(unit)] = f"[Slice]\nAllowedCPUs=\nAllowedCPUs={value}\n"
    kernel.allowed.pop(unit, None)
    if value:
        kernel.allowed[unit] = value
    for each in UNITS:
        path = f"{ROOT}/{each}/cpuset.cpus"
        if not kernel.allowed:
            kernel.files.pop(path, None)
            kernel.files.pop(f"{path}.effective", None)
            continue
        kernel.files.setdefault(path, "\n")
        if each == unit and value:
            kernel.files[path] = value + "\n"
        _settle(kernel, path)
    for name in [name for name in kernel.files if name.endswith("/cgroup.events")]:
        path = name.replace("/cgroup.events", "/cpuset.cpus")
        if kernel.allowed:
            kernel.files.setdefault(path, "\n")
        else:
            kernel.files.pop(path, None)


def show(kernel: Files, properties: str, unit: str) -> str:
    """systemctl show --property=PROPERTIES -- UNIT"""
    active = kernel.units.get(unit, "not-found")
    load = active if active in ("masked", "not-found") else "loaded"
    told = {
        "LoadState": load,
        "ActiveState": "failed"
        if active == "broken"
        else active
        if load == "loaded"
        else "inactive",
        "SubState": "",
    }
    return "".join(f"{name}={told[name]}\n" for name in properties.split(","))


def control(kernel: Files, verb: str, unit: str) -> None:
    """systemctl start, stop or reset-failed."""
    if unit not in kernel.units:
        raise HookError(f"systemctl {verb} -- {unit}: exit code 5: Unit {unit} not loaded.")
    before = kernel.units[unit]
    if unit.startswith("vfio-hooks-") and verb == "stop":
        # A transient one.
        del kernel.units[unit]
        return
    if before == "masked":
        raise HookError(f"systemctl {verb} -- {unit}: exit code 1: Unit {unit} is masked.")
    if before == "broken":
        if verb == "start":
            raise HookError(f"systemctl start -- {unit}: exit code 1: Job failed.")
    elif before == "failed" and verb == "start":
        raise HookError(f"systemctl start -- {unit}: exit code 1: start of the service too often.")
    elif verb == "start":
        kernel.units[unit] = "active"
    elif before != "failed" or verb == "reset-failed":
        kernel.units[unit] = "inactive"


def run_service(kernel: Files, words: list[str]) -> None:
    """systemd-run of a program that runs on and on."""
    unit = next(word for word in words if word.startswith("--unit=")).removeprefix("--unit=")
    if unit in kernel.units:
        raise HookError(f"systemd-run: exit code 1: Failed to start transient: {unit} exists")
    kernel.units[unit] = "active"


def write(kernel: Files, path: str, text: str) -> str:
    """What a cpuset.cpus shows after a write of its own."""
    if not text and kernel.files[path].strip():
        raise OSError(errno.ENOSPC, "No space left on device", path)
    kernel.files[path] = format_list(parse_list(text)) + "\n"
    _settle(kernel, path)
    return kernel.files[path].strip()


def _settle(kernel: Files, path: str) -> None:
    own = parse_list(kernel.files[path])
    kernel.files[f"{path}.effective"] = format_list(own & ALL or ALL) + "\n"


def without_the_unrestricted(files: dict[str, str]) -> dict[str, str]:
    """The files, but for the cpusets that restrict nobody: for comparing before with after."""
    return {
        path: text
        for path, text in files.items()
        if not path.endswith(("/cpuset.cpus", "/cpuset.cpus.effective"))
        or (text.strip() and not parse_list(text) >= ALL)
    }
