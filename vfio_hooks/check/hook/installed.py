"""The hook's file, its interpreter, and the package that it uses."""

import os
import re
from collections.abc import Iterator

from vfio_hooks import KEPT_HOOK
from vfio_hooks.check.hook import hook, is_executable, library, shows_hooks
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.commands.by_sh import run
from vfio_hooks.commands.executable import interpreter, text_of
from vfio_hooks.errors import HookError

_LIBVIRT = "https://libvirt.org/hooks.html"
_AGAIN = "run install.sh of vfio-hooks again"
_ALLOWED = ("/etc/libvirt/hooks/", "/usr/bin/", "/usr/sbin/", "/usr/lib/libvirt/")
"""Where AppArmor's profile of libvirtd lets it run a program."""
_SECONDS = 20.0


@rule(
    "hook-missing",
    "hook",
    "error",
    why="libvirt runs this file at each start and end of a VM. Without it nothing of vfio-hooks "
    "happens.",
    source=_LIBVIRT,
)
def missing(patient: Patient) -> Iterator[Seen]:
    path = hook(patient)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        if shows_hooks(patient):
            yield Seen(f"there is no {path}", "sudo ./install.sh")


@rule(
    "hook-not-executable",
    "hook",
    "error",
    why="libvirt skips a hook that is not executable.",
    source=_LIBVIRT,
)
def not_executable(patient: Patient) -> Iterator[Seen]:
    path = hook(patient)
    if os.path.isfile(path) and not is_executable(path):
        yield Seen(f"{path} is not executable", f"chmod 755 {path}")


@rule(
    "hook-not-ours",
    "hook",
    "error",
    why="libvirt runs only this file. As it is not the hook of vfio-hooks, no vm.toml has any "
    "effect.",
    source=_LIBVIRT,
)
def foreign(patient: Patient) -> Iterator[Seen]:
    path = hook(patient)
    text = text_of(path)
    if os.path.isfile(path) and "vfio_hooks.dispatch" not in text:
        yield Seen(
            f"{path} is not the hook of vfio-hooks",
            f"{_AGAIN}, which keeps that hook and still runs it",
        )


@rule(
    "hook-is-link",
    "hook",
    "error",
    why="AppArmor looks at the target of a link. libvirtd may run files in its hooks' folder, "
    "but none in /opt or /usr/local. Every start of a VM would fail.",
    source="AppArmor's profile usr.sbin.libvirtd",
)
def link(patient: Patient) -> Iterator[Seen]:
    path = hook(patient)
    if not os.path.islink(path):
        return
    root = os.path.realpath(patient.host.root or "/").rstrip("/")
    goal = os.path.realpath(path).removeprefix(root)
    confined = patient.host.maybe("/sys/module/apparmor/parameters/enabled") == "Y"
    if confined and not goal.startswith(_ALLOWED):
        yield Seen(f"{path} is a link to {goal}", f"rm {path}, then {_AGAIN}")


@rule(
    "hook-interpreter-missing",
    "hook",
    "error",
    why="If the hook cannot be run, every start of a VM fails, and running VMs are killed when "
    "the daemon is restarted.",
    source="execve(2); libvirt's qemu_process.c, reconnect",
)
def no_interpreter(patient: Patient) -> Iterator[Seen]:
    path = hook(patient)
    text = text_of(path)
    for name in filter(None, (interpreter(text), _named_python(text))):
        if not is_executable(patient.host.path(name)):
            yield Seen(f"{path} needs the interpreter {name}, which does not exist", _AGAIN)


@rule(
    "hook-package-missing",
    "hook",
    "error",
    why="The hook is only the first part of the program. Without its package, managed VMs do not "
    "start.",
    source="vfio-hooks(1), FILES",
)
def no_package(patient: Patient) -> Iterator[Seen]:
    folder = library(patient)
    if folder and not patient.host.exists(f"{folder}/vfio_hooks/dispatch.py"):
        yield Seen(f"{hook(patient)} uses the package in {folder}, which does not exist", _AGAIN)


@rule(
    "hook-dependencies",
    "hook",
    "error",
    why="The hook is run by the distribution's Python, and needs nothing else. If Python is "
    "incomplete, managed VMs do not start.",
    source="README, Install",
)
def dependencies(patient: Patient) -> Iterator[Seen]:
    if (name := _python(patient)) and (problem := _lacks(name, "json, pyexpat, tomllib")):
        yield Seen(
            f"{name}, which runs the hook, cannot import a part of Python: {problem}",
            "apt install python3, because python3-minimal is not enough (or your distribution's "
            "package of the complete Python)",
        )


@rule(
    "command-dependencies",
    "hook",
    "warning",
    why="The hook does not need lxml, but the command needs it to show or edit a domain's XML. "
    "check, init and topology do not work without it.",
    source="README, Install",
)
def modules(patient: Patient) -> Iterator[Seen]:
    if (name := _python(patient)) and (problem := _lacks(name, "lxml.etree")):
        yield Seen(
            f"{name}, which runs vfio-hooks, cannot import lxml: {problem}",
            "apt install python3-lxml (or your distribution's package of lxml)",
        )


def _python(patient: Patient) -> str | None:
    """The Python that runs our hook on this machine, and also the command."""
    text = text_of(hook(patient))
    name = _named_python(text)
    is_ours = patient.host.is_this_machine and "vfio_hooks" in text
    return name if is_ours and name and is_executable(name) else None


def _named_python(text: str) -> str | None:
    """The Python that the hook's first half, a shell script, starts for its second half."""
    found = re.search(r"^python=(\S+)$", text, re.MULTILINE)
    return found[1] if found else None


def _lacks(python: str, modules: str) -> str:
    """Why it cannot import modules; "" if it can."""
    try:
        run([python, "-I", "-c", f"import {modules}"], _SECONDS)
    except HookError as error:
        return error.problem
    return ""


@rule(
    "kept-hook-broken",
    "hook",
    "warning",
    why="The hook that was there before is run after the hook of vfio-hooks. If it is not "
    "executable, it is skipped; if its interpreter is missing, each event fails.",
    source="vfio-hooks(1), FILES",
)
def kept(patient: Patient) -> Iterator[Seen]:
    path = f"{patient.paths.config}/{KEPT_HOOK}"
    if not os.path.isfile(path):
        return
    name = interpreter(text_of(path))
    if not is_executable(path):
        yield Seen(f"{path} is not executable, so it is not run", f"chmod 755 {path}, or remove it")
    elif name and not is_executable(patient.host.path(name)):
        yield Seen(
            f"{path} needs the interpreter {name}, which does not exist",
            "fix its interpreter line, or remove it",
        )


RULES = (
    missing,
    not_executable,
    foreign,
    link,
    no_interpreter,
    no_package,
    dependencies,
    modules,
    kept,
)
