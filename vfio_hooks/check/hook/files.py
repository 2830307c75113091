"""What users have put into the hooks' folder: configuration, executables, other hooks."""

import os
import re
from collections.abc import Iterator
from shlex import quote

from vfio_hooks import HOST_FILE, KEPT_HOOK, VM_FILE, VM_FOLDERS
from vfio_hooks.check.domain.facts import shows_files
from vfio_hooks.check.hook import is_executable, looked_at, managed
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.commands.executable import fault, interpreter, syntax_error, text_of
from vfio_hooks.config import examine, examine_defaults
from vfio_hooks.config.trust import trusted
from vfio_hooks.errors import HookError, did_you_mean
from vfio_hooks.event import OPERATIONS

_LIBVIRT = "https://libvirt.org/hooks.html"
_VIRSH = r"(?<![\w./-])(?:[\w./-]*/s?bin/)?virsh(?![\w.-])"
_OPTIONS = r"\s+(?:(?:-\S+|\w+:\S+)\s+)*"
_HARMLESS = rf"(?!{_OPTIONS}(?:nodedev|net|pool|vol|iface|secret)-)"
"""Commands of virsh that do not touch the VM."""
_BASH = ("/usr/bin/bash", "/bin/bash", "/run/current-system/sw/bin/bash")
_FIRST_LINE = "begin it with #!/bin/sh if it is written for sh, or install bash"


@rule(
    "vm-unmanaged",
    "hook",
    "hint",
    why="vfio-hooks does nothing for a VM without a folder, or with an empty one.",
    source="vfio-hooks.toml(5)",
)
def unmanaged(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if not guest or not guest.domain.pci or not os.path.isdir(patient.paths.config):
        return
    vm, others = guest.domain.name, managed(patient)
    path = f"{patient.paths.config}/{VM_FOLDERS}/{vm}"
    do = f"sudo vfio-hooks init {quote(vm)}"
    if vm not in others:
        guess = did_you_mean(vm, others)
        yield Seen(
            f"{vm} has devices of the host, but no folder {path}"
            + (f" ({guess})" if guess else ""),
            do,
        )
    elif _does_nothing(patient.paths.config, vm):
        yield Seen(f"{vm} has devices of the host, but {path} has no table and no executable", do)


def _does_nothing(hooks: str, vm: str) -> bool:
    config = examine(hooks, vm)[0]
    return bool(config and not config.tables) and not any(
        map(is_executable, _scripts(f"{hooks}/{VM_FOLDERS}/{vm}"))
    )


@rule(
    "config-unsafe",
    "hook",
    "error",
    why="Root does what these files say. A file that others could have written is refused, and "
    "its VM does not start.",
    source="vfio-hooks.toml(5)",
)
def unsafe(patient: Patient) -> Iterator[Seen]:
    for problem, hint in _unsafe(patient).items():
        yield Seen(problem, hint or "correct it, or remove it")


def _unsafe(patient: Patient) -> dict[str, str]:
    """What is wrong with the owners of files, each once, and what to do."""
    seen: dict[str, str] = {}
    for path in _trusted_files(patient):
        try:
            trusted(path, patient.paths.config)
        except HookError as error:
            seen[error.problem] = error.hint
    return seen


def _trusted_files(patient: Patient) -> Iterator[str]:
    host_wide = f"{patient.paths.config}/{HOST_FILE}"
    if os.path.lexists(host_wide):
        yield host_wide
    for path in looked_at(patient).values():
        yield path
        yield from (f"{path}/{name}" for name in sorted(os.listdir(path)) if _is_read(name))
        yield from (script for script in _scripts(path) if is_executable(script))


def _is_read(name: str) -> bool:
    return name == VM_FILE or name.endswith(".py")


@rule(
    "config-wrong",
    "hook",
    "error",
    why="A VM whose configuration is wrong does not start.",
    source="vfio-hooks.toml(5)",
)
def wrong(patient: Patient) -> Iterator[Seen]:
    known = _unsafe(patient)
    problems = [] if looked_at(patient) else examine_defaults(patient.paths.config)[1]
    for name in looked_at(patient):
        problems += examine(patient.paths.config, name)[1]
    told = {error.problem: error.hint for error in problems if error.problem not in known}
    for problem, hint in told.items():
        yield Seen(problem, hint or "vfio-hooks validate")


@rule(
    "qemu-d-executable",
    "hook",
    "warning",
    why="Since version 6.5 libvirt itself runs every executable file in this folder, at each event "
    "of each VM, with or without vfio-hooks.",
    source=_LIBVIRT,
)
def run_by_libvirt(patient: Patient) -> Iterator[Seen]:
    path = f"{patient.paths.config}/{VM_FOLDERS}"
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        if is_executable(f"{path}/{name}"):
            yield Seen(
                f"libvirt runs {path}/{name} for every VM",
                f"if it is for one VM: mkdir -p {path}/VM/prepare/begin, and move it there",
            )


@rule(
    "script-not-executable",
    "hook",
    "warning",
    why="A file that is not executable is skipped.",
    source="vfio-hooks.toml(5), EXECUTABLES",
)
def not_executable(patient: Patient) -> Iterator[Seen]:
    for path in looked_at(patient).values():
        for script in _scripts(path):
            if not is_executable(script) and interpreter(text_of(script)):
                yield Seen(
                    f"{script} is not executable, so it is not run", f"chmod +x {quote(script)}"
                )


@rule(
    "script-broken",
    "hook",
    "error",
    why="A script that cannot be run keeps the VM from starting. A script with a syntax error "
    "stops halfway.",
    source="execve(2); bash(1), -n",
)
def broken(patient: Patient) -> Iterator[Seen]:
    interpreters = patient.host if shows_files(patient.host) else None
    for path in looked_at(patient).values():
        for script in _scripts(path):
            if is_executable(script) or not os.path.exists(script):
                if wrong := fault(script, interpreters):
                    yield Seen(wrong.problem, wrong.hint)
                elif told := syntax_error(script):
                    yield Seen(f"{script} has a mistake: {told}", f"bash -n {quote(script)}")


@rule(
    "script-without-shell",
    "hook",
    "warning",
    why="A script without such a line is run with bash, as VFIO-Tools did it. This host only has "
    "sh, which does not understand everything that is written for bash.",
    source="vfio-hooks.toml(5), EXECUTABLES",
)
def without_shell(patient: Patient) -> Iterator[Seen]:
    if not shows_files(patient.host) or any(map(patient.host.exists, _BASH)):
        return
    for path in looked_at(patient).values():
        for script in filter(is_executable, _scripts(path)):
            if (text := text_of(script)) and not interpreter(text):
                yield Seen(f"{script} has no first line that names its shell", _FIRST_LINE)


@rule(
    "script-calls-virsh",
    "hook",
    "error",
    why="libvirt waits for its hook, and the hook waits for libvirt. This is a deadlock, which "
    "holds up all other VMs as well.",
    source=f"{_LIBVIRT}, Calling libvirt functions from within a hook script",
    sure="likely",
)
def virsh(patient: Patient) -> Iterator[Seen]:
    for where in _lines(patient, rf"{_VIRSH}{_HARMLESS}|\bimport libvirt\b"):
        yield Seen(
            f"{where} calls libvirt from a hook",
            "read the XML from standard input instead; to run something after the hook: "
            "systemd-run --no-block COMMAND",
        )


@rule(
    "script-calls-nodedev",
    "hook",
    "hint",
    why="A hook must not call libvirt. This command happens to work, but is not needed.",
    source=f"{_LIBVIRT}, Calling libvirt functions from within a hook script",
    sure="likely",
)
def nodedev(patient: Patient) -> Iterator[Seen]:
    for where in _lines(patient, rf"{_VIRSH}{_OPTIONS}nodedev-"):
        yield Seen(f"{where} calls virsh nodedev-", "in vm.toml: [pci], and take that line out")


def _lines(patient: Patient, pattern: str) -> Iterator[str]:
    """Where scripts that libvirt or this program runs have a line with a pattern."""
    hooks = patient.paths.config
    beside = f"{hooks}/{VM_FOLDERS}"
    paths = [f"{hooks}/{KEPT_HOOK}"]
    names = sorted(os.listdir(beside)) if os.path.isdir(beside) else []
    paths += [f"{beside}/{name}" for name in names]
    for path in looked_at(patient).values():
        paths += _scripts(path)
    for path in paths:
        if os.path.isfile(path) and is_executable(path):
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if re.search(pattern, line.partition("#")[0]):
                    yield f"{path}:{number}"
                    break


def _scripts(path: str) -> Iterator[str]:
    """The files below a VM's folder that are run at some event, if they are executable."""
    for op, subop in OPERATIONS.items():
        place = f"{path}/{op}/{subop}"
        if os.path.isdir(place):
            paths = (f"{place}/{name}" for name in sorted(os.listdir(place)))
            yield from filter(_is_file_or_missed, paths)
        elif _is_file_or_missed(place):
            yield place


def _is_file_or_missed(path: str) -> bool:
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


RULES = (
    *(unmanaged, unsafe, wrong, run_by_libvirt, not_executable, broken, without_shell),
    *(virsh, nodedev),
)
