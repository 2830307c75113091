"""Files in the hooks' folder that nothing uses, because their name or place is wrong.

A script or a module may have data files beside it. So only files that are surely meant to be read
or run are reported: configuration by another name, and executables that no event runs and that
nothing in the folder names.
"""

import os
from collections.abc import Iterator
from shlex import quote

from vfio_hooks import VM_FILE, VM_FOLDERS
from vfio_hooks.check.hook import is_executable, looked_at
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.commands.executable import text_of
from vfio_hooks.errors import HookError, meant, nearest
from vfio_hooks.event import OPERATIONS

_SUBOPS = ("begin", "end")


def beside_folders(hooks: str) -> Iterator[HookError]:
    """Configuration that lies in no VM's folder."""
    place = f"{hooks}/{VM_FOLDERS}"
    for name in _names(place):
        if name.endswith(".toml") and os.path.isfile(f"{place}/{name}"):
            own = quote(f"{place}/{'VM' if name == VM_FILE else name.removesuffix('.toml')}")
            yield HookError(
                f"{place}/{name} is in no VM's folder, so it is not read",
                f"mkdir -p {own}; mv -n {quote(f'{place}/{name}')} {own}/{VM_FILE}",
            )


def in_folder(home: str) -> Iterator[HookError]:
    """Files in the folder of a VM that nothing uses."""
    names = _names(home)
    for name in names:
        path = f"{home}/{name}"
        if name in OPERATIONS:
            yield from _in_operation(home, name)
        elif os.path.isdir(path):
            if _is_operation(path, name) and not _is_named(home, f"{name}/"):
                yield HookError(
                    f"{path}: libvirt has no operation {name}, so nothing in this folder is run",
                    nearest(name, OPERATIONS),
                )
        elif VM_FILE not in names and _is_configuration(name) and not _is_named(home, name, path):
            yield HookError(
                f"{path} is not read: the file's name is {VM_FILE}",
                f"mv -n {quote(path)} {quote(f'{home}/{VM_FILE}')}",
            )
        elif _is_idle(home, path) and not _is_module(name):
            yield HookError(
                f"{path} is in the folder of no event, so vfio-hooks does not run it",
                f"if it is for the VM's start: mkdir -p {quote(home)}/prepare/begin; move it there",
            )


def _in_operation(home: str, op: str) -> Iterator[HookError]:
    """Files in the folder of an operation that are not run: libvirt calls each operation with one
    sub-operation only."""
    place, subop = f"{home}/{op}", OPERATIONS[op]
    for name in _names(place) if os.path.isdir(place) else [""]:
        path = f"{place}/{name}".rstrip("/")
        is_misnamed = bool(meant(name, _SUBOPS)) and _has_executables(path)
        if name != subop and (
            _is_idle(home, path) or (is_misnamed and not _is_named(home, f"{name}/"))
        ):
            yield HookError(
                f"{path} is not run: the event is {op} {subop}",
                f"move what should run then into {place}/{subop}/",
            )


def _is_operation(path: str, name: str) -> bool:
    """Whether a folder is meant to be that of an operation; prepare.off is meant to be unused."""
    if name.partition(".")[0] in OPERATIONS:
        return False
    inner = [f"{path}/{subop}" for subop in _SUBOPS]
    if any(is_executable(one) or _has_executables(one) for one in inner):
        return True
    return bool(meant(name, (*OPERATIONS, *_SUBOPS))) and _has_executables(path)


def _is_configuration(name: str) -> bool:
    """vm.tmol, win11.toml, vm.toml.txt; a vm.toml.bak or vm.toml.off is meant to be unused."""
    lower = name.lower()
    misspelled = bool(meant(lower, [VM_FILE])) and not lower.startswith(VM_FILE)
    return misspelled or lower.endswith((".toml", ".toml.txt"))


def _is_module(name: str) -> bool:
    return name.endswith(".py") and name.removesuffix(".py").isidentifier()


def _is_idle(home: str, path: str) -> bool:
    return _is_program(path) and not _is_named(home, os.path.basename(path), path)


def _is_program(path: str) -> bool:
    """A ROM or a text from another file system may have the bits, too."""
    if not is_executable(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith((b"#!", b"\x7fELF"))
    except OSError:
        return False


def _is_named(home: str, text: str, itself: str = "") -> bool:
    """Whether a script, a module, vm.toml or another hook has this text: it may be what uses the
    file."""
    folders = os.path.dirname(home), os.path.dirname(os.path.dirname(home))
    files = [f"{place}/{name}" for place in folders for name in _names(place)]
    files += [f"{place}/{name}" for place, _, names in os.walk(home) for name in names]
    return any(text in text_of(file) for file in files if file != itself)


def _has_executables(path: str) -> bool:
    return any(is_executable(f"{path}/{name}") for name in _names(path))


def _names(path: str) -> list[str]:
    """What is in a folder, without hidden files and backups; nothing if it cannot be read."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    return [name for name in names if not name.startswith(".") and not name.endswith("~")]


@rule(
    "file-unused",
    "hook",
    "warning",
    why="A file with a wrong name or in a wrong place does nothing, and its VM starts without it.",
    source="vfio-hooks.toml(5), EXECUTABLES",
)
def unused(patient: Patient) -> Iterator[Seen]:
    for problem in beside_folders(patient.paths.config):
        yield Seen(problem.problem, problem.hint)
    for home in looked_at(patient).values():
        for problem in in_folder(home):
            yield Seen(problem.problem, problem.hint)


RULES = (unused,)
