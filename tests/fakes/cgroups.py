"""Control groups that no systemd looks after: tasks that move, and CPU sets in v2 and in v1."""

import errno
import os
from typing import Protocol

from tests.fakes import systemd
from vfio_hooks.host.cgroup import ROOT, V1
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list

_TASKS = ("cgroup.procs", "tasks")
_CONTROL = "cgroup.subtree_control"
_SET = "cpuset.cpus"
PROGRAMS, KERNELS = (500, 501), 77
"""Tasks in the top group: two programs, and a thread of the kernel's."""


class Files(systemd.Files, Protocol):
    """A kernel in memory."""

    hands_on: bool
    """Whether a group of libvirt's hands the cpuset controller on to others below."""


def boot(kernel: Files) -> None:
    """Put both hierarchies into a kernel, each with a group of the host."""
    for pid in PROGRAMS:
        kernel.add_thread(pid, f"program {pid}", "0-7", flags=0x400100)
    top = "".join(f"{pid}\n" for pid in (*PROGRAMS, KERNELS))
    kernel.files |= {f"{ROOT}/{_CONTROL}": "memory pids\n", f"{ROOT}/cgroup.procs": top}
    kernel.files |= {f"{V1}/{_SET}": "0-7\n", f"{V1}/cpuset.mems": "0-1\n"}
    kernel.files |= dict.fromkeys((f"{V1}/cgroup.procs", f"{V1}/tasks"), top)
    for top_group in (ROOT, V1):
        make(kernel, f"{top_group}/openrc.sshd")
    kernel.files[f"{V1}/openrc.sshd/{_SET}"] = "0-5\n"
    for group in (
        "",
        "/machine-qemu.scope",
        *map("/machine-qemu.scope/libvirt{}".format, ("", "/vcpu0")),
    ):
        kernel.files[f"{ROOT}/machine.slice{group}/{_SET}.exclusive"] = "\n"
        kernel.files[f"{ROOT}/machine.slice{group}/{_SET}.partition"] = "member\n"


def make(kernel: Files, group: str) -> None:
    """mkdir"""
    kernel.files[f"{group}/cgroup.procs"] = "\n"
    if group.startswith(V1):
        kernel.files |= dict.fromkeys(
            (f"{group}/{name}" for name in ("tasks", _SET, "cpuset.mems")), "\n"
        )
    elif "cpuset" in kernel.files[f"{ROOT}/{_CONTROL}"].split():
        kernel.files[f"{group}/{_SET}"] = "\n"


def remove(kernel: Files, group: str) -> None:
    """rmdir"""
    below = [name for name in kernel.files if name.startswith(group + "/")]
    groups = [name for name in below if name.endswith("/cgroup.procs")]
    if len(groups) > 1 or kernel.files[groups[0]].split():
        raise OSError(errno.EBUSY, "Device or resource busy", group)
    for name in below:
        del kernel.files[name]


def handles(name: str) -> bool:
    """Whether this file belongs to a group that systemd does not manage."""
    group, _, file = name.rpartition("/")
    own = os.path.basename(group) not in systemd.UNITS
    return name.startswith(ROOT) and own and file in (*_TASKS, _CONTROL, _SET, "cpuset.mems")


def write(kernel: Files, name: str, text: str) -> None:
    """A write to one of these files."""
    group, _, file = name.rpartition("/")
    if name not in kernel.files:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
    if file in _TASKS:
        _move(kernel, name, text)
    elif file == _CONTROL:
        _switch(kernel, name, text)
    elif file == _SET:
        _check_set(kernel, group, parse_list(text))
        kernel.files[name] = format_list(parse_list(text)) + "\n"
        if f"{name}.effective" in kernel.files:
            systemd.settle(kernel, group)
    else:
        kernel.files[name] = text + "\n"


def _move(kernel: Files, name: str, task: str) -> None:
    group = os.path.dirname(name)
    if f"/proc/{task}/stat" not in kernel.files:
        raise ProcessLookupError(errno.ESRCH, "No such process", name)
    if int(task) == KERNELS:
        raise OSError(errno.EINVAL, "Invalid argument", name)
    if group.startswith(V1) and not all(
        kernel.files[f"{group}/{one}"].strip() for one in (_SET, "cpuset.mems")
    ):
        raise OSError(errno.ENOSPC, "No space left on device", name)
    top = V1 if group.startswith(V1) else ROOT
    for other, text in kernel.files.items():
        same = other.startswith(top) and (top == V1 or not other.startswith(V1))
        if same and os.path.basename(other) in _TASKS:
            left = [one for one in text.split() if one != task]
            kernel.files[other] = "".join(f"{one}\n" for one in left) or "\n"
    for one in _TASKS:
        if f"{group}/{one}" in kernel.files:
            others = kernel.files[f"{group}/{one}"].split()
            kernel.files[f"{group}/{one}"] = "".join(
                f"{each}\n" for each in sorted({*others, task})
            )


def _switch(kernel: Files, name: str, text: str) -> None:
    on = kernel.files[name].split()
    wanted = text[1:]
    groups = [
        path.removesuffix("/cgroup.procs")
        for path in kernel.files
        if path.startswith(ROOT) and path.endswith("/cgroup.procs") and not path.startswith(V1)
    ]
    groups = [group for group in groups if handles(f"{group}/{_SET}") and group != ROOT]
    if text == "-cpuset" and kernel.hands_on:
        raise OSError(errno.EBUSY, "Device or resource busy", name)
    if text == "-cpuset":
        for group in groups:
            kernel.files.pop(f"{group}/{_SET}", None)
    else:
        kernel.files |= {
            f"{group}/{_SET}": "\n" for group in groups if f"{group}/{_SET}" not in kernel.files
        }
    rest = [one for one in on if one != wanted]
    kernel.files[name] = " ".join(rest if text.startswith("-") else [*rest, wanted]) + "\n"


def _check_set(kernel: Files, group: str, cpus: CpuSet) -> None:
    name = f"{group}/{_SET}"
    tasks = kernel.files[f"{group}/cgroup.procs"].split()
    if not cpus and kernel.files[name].strip() and tasks and not kernel.empties:
        raise OSError(errno.ENOSPC, "No space left on device", name)
    if not group.startswith(V1):
        return
    outer = kernel.files[f"{os.path.dirname(group)}/{_SET}"]
    if not cpus <= parse_list(outer):
        raise OSError(errno.EACCES, "Permission denied", name)
    for inner, text in kernel.files.items():
        is_inner = inner.startswith(group + "/") and inner.endswith("/" + _SET) and inner != name
        if is_inner and not parse_list(text) <= cpus:
            raise OSError(errno.EBUSY, "Device or resource busy", name)
