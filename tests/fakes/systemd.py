"""What systemd does: units that run or do not, and AllowedCPUs with the kernel's cpusets.

As seen with systemd 252 and 257: the cpuset controller is there while any unit needs it; clearing
a property leaves the unit's cpuset as it was, for the kernel lets none with tasks be emptied. With
262 and Linux 7.2 it is emptied, but for the last one, which goes with the controller.
"""

import errno
from typing import Protocol

from tests.fakes import tasks
from vfio_hooks.commands import failed
from vfio_hooks.errors import HookError
from vfio_hooks.host.cgroup import V1
from vfio_hooks.host.cpulist import format_list, parse_list

ROOT = "/sys/fs/cgroup"
CONTROL = f"{ROOT}/cgroup.subtree_control"
UNITS = ("init.scope", "system.slice", "user.slice", "machine.slice")
GROUPS = {
    "init.scope": "1",
    "system.slice": "",
    "system.slice/dbus.service": "401",
    "user.slice": "",
    "user.slice/user-1000.slice/session-2.scope": "402",
    "machine.slice": "",
}
"""The groups of a host that has booted, the oldest first, and the task in each."""
ALL = frozenset(range(8))
DROP_IN = "/run/systemd/system.control/{}.d/50-AllowedCPUs.conf"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    trims: bool
    empties: bool
    """Whether a set with tasks in it can be emptied, as since Linux 7."""
    unmoved: int
    """How many tasks are given CPUs before the kernel has moved them out of a controller that shows
    as off."""
    allowed: dict[str, str]
    """AllowedCPUs of the units that have it set."""
    units: dict[str, str]
    """ActiveState of the units that there are, "masked", or "broken" for one that cannot run."""

    def add_thread(self, pid: int, name: str, cpus: str, flags: int) -> None: ...


def boot(kernel: Files) -> None:
    """Put cgroup v2 with systemd into a kernel."""
    kernel.files["/run/systemd/system/placeholder"] = "\n"
    kernel.files[f"{ROOT}/cgroup.controllers"] = "cpuset cpu io memory pids\n"
    kernel.files[CONTROL] = "memory pids\n"
    for group, pid in GROUPS.items():
        make(kernel, group, pid)


def make(kernel: Files, group: str, pid: str) -> None:
    """Put a unit's group into a kernel, and the task in it ("" for none)."""
    kernel.files[f"{ROOT}/{group}/cgroup.procs"] = f"{pid}\n"
    if pid:
        kernel.add_thread(int(pid), f"task {pid}", "0-15", flags=0x400100)


def set_property(kernel: Files, unit: str, assignment: str) -> None:
    """systemctl set-property --runtime UNIT AllowedCPUs=..."""
    value = assignment.removeprefix("AllowedCPUs=")
    kernel.files[DROP_IN.format(unit)] = f"[Slice]\nAllowedCPUs=\nAllowedCPUs={value}\n"
    kernel.allowed.pop(unit, None)
    if value:
        kernel.allowed[unit] = value
    others = [one for one in kernel.files[CONTROL].split() if one != "cpuset"]
    wanted = ["cpuset", *others] if kernel.allowed else others
    kernel.files[CONTROL] = " ".join(wanted) + "\n"
    if kernel.allowed:
        _apply(kernel, f"{ROOT}/{unit}", value)
    else:
        _switch_off(kernel)


def _groups(kernel: Files) -> list[str]:
    """The paths of the groups at the top, the oldest first; those of systemd's units and others."""
    paths = (name for name in kernel.files if name.startswith(ROOT) and not name.startswith(V1))
    names = [path.removeprefix(f"{ROOT}/") for path in paths]
    groups = [name.removesuffix("/cgroup.procs") for name in names]
    return [
        f"{ROOT}/{name}" for name in groups if name + "/cgroup.procs" in names and "/" not in name
    ]


def _apply(kernel: Files, changed: str, value: str) -> None:
    for group in _groups(kernel):
        path = f"{group}/cpuset.cpus"
        kernel.files.setdefault(path, "\n")
        kernel.files.setdefault(f"{path}.effective", format_list(ALL) + "\n")
        if group == changed and (value or kernel.empties):
            kernel.files[path] = value + "\n"
            settle(kernel, group)


def _switch_off(kernel: Files) -> None:
    effective = {}
    for group in _groups(kernel):
        kernel.files.pop(f"{group}/cpuset.cpus", None)
        if text := kernel.files.pop(f"{group}/cpuset.cpus.effective", None):
            effective[group] = text
    tasks.release(kernel, effective)


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
    """systemd-run of a program that keeps running."""
    unit = next(word for word in words if word.startswith("--unit=")).removeprefix("--unit=")
    if unit in kernel.units:
        raise failed(["systemd-run"], 1, f"Failed to start transient: {unit} exists".encode())
    kernel.units[unit] = "active"


def write(kernel: Files, path: str, text: str) -> str:
    """What a cpuset.cpus shows after a write of its own."""
    if not text and kernel.files[path].strip() and not kernel.empties:
        raise OSError(errno.ENOSPC, "No space left on device", path)
    kernel.files[path] = format_list(parse_list(text)) + "\n"
    settle(kernel, path.rpartition("/")[0])
    return kernel.files[path].strip()


def settle(kernel: Files, group: str) -> None:
    """Note that a group's own set has changed."""
    own = parse_list(kernel.files[f"{group}/cpuset.cpus"])
    online = parse_list(kernel.files["/sys/devices/system/cpu/online"])
    kernel.files[f"{group}/cpuset.cpus.effective"] = format_list(own & online or online) + "\n"
    tasks.confine(kernel, group)


def without_the_unrestricted(files: dict[str, str]) -> dict[str, str]:
    """The files, but for the cpusets that restrict nobody: for comparing before with after."""
    return {
        path: text
        for path, text in files.items()
        if not path.endswith(("/cpuset.cpus", "/cpuset.cpus.effective"))
        or (text.strip() and not parse_list(text) >= ALL)
    }
