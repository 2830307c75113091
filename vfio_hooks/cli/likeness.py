"""`vfio-hooks rehearse --host`: a VM rehearsed in an emulated likeness of a host."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import vfio_hooks
from vfio_hooks import HOST_FILE, VM_FOLDERS
from vfio_hooks.cli.common import paths
from vfio_hooks.cli.domains import Defined, captured, defined, from_file, pick
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import clean, say
from vfio_hooks.cli.xml import SYSTEM
from vfio_hooks.commands import find
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.rehearse.likeness import Likeness, likeness
from vfio_hooks.rehearse.likeness.addresses import translated
from vfio_hooks.rehearse.report import EQUAL

EXACT = "start and undo exact"
_RUNNER = "tests.vm.likeness"


class Runner(Protocol):
    """Something that can run an emulated host. It boots a likeness, says what it does, and returns
    the report of the rehearsal in it, or what kept the rehearsal from beginning. `files` are the
    texts in the hooks' folder, by their names there."""

    def rehearse(
        self,
        plan: Likeness,
        files: Mapping[str, str],
        rounds: int,
        tell: Callable[[str], None],
    ) -> list[str]: ...


def run(arguments: argparse.Namespace) -> int:
    """Plan the likeness, say what it cannot imitate, and rehearse the VM in it."""
    here = paths(argparse.Namespace(root=arguments.host or "/", config_dir=arguments.config_dir))
    host = here.host()
    asked = _domain(arguments.vm, arguments.xml, host)
    name = asked.domain.name
    texts = dict(_texts(Path(here.config), name))
    if not any(file.startswith(VM_FOLDERS) for file in texts):
        raise HookError(
            f"{name} has no folder in {here.config}/{VM_FOLDERS}: there is nothing to rehearse",
            "name the folder that has qemu.d with --config-dir DIR",
        )
    plan = likeness(host, asked.xml, asked.domain, texts)
    for line in told(plan):
        say(clean(line))
    runner = emulated_host()
    if not arguments.yes and not ask("boot it, and begin?"):
        say("nothing was started")
        return 1
    moved = {file: translated(text, plan.addresses) for file, text in texts.items()}
    report = runner.rehearse(plan, moved, arguments.rounds or 2, say)
    back = {there: ours for ours, there in plan.addresses.items()}
    for line in report:
        say(clean(translated(line, back)), 1)
    is_exact = bool(report) and report[-1].endswith(EQUAL)
    verdict = EXACT if is_exact else "not exact, as told above"
    if is_exact and plan.fatal:
        verdict = f"{EXACT} there, but it cannot start on the host itself: {plan.fatal[0]}"
    say(clean(f"{name}: {verdict}"))
    return int(not is_exact or bool(plan.fatal))


def _domain(vm: str | None, file: str | None, host: Host) -> Defined:
    """A file with a domain's XML, which may be named in the VM's stead, or a domain of the host's.
    Raises HookError."""
    if file is not None:
        return from_file(file, vm)
    if vm is not None and (vm.endswith(".xml") or os.path.isfile(vm)):
        return from_file(vm)
    if vm is not None and host.is_this_machine:
        return defined(vm, host, SYSTEM)
    found = captured(host)
    if vm is None and len(found) == 1:
        return found[0]
    if vm is None:
        raise HookError("which VM?", "give its name, or its XML with --xml FILE")
    return pick(vm, found, host)


def _texts(config: Path, vm: str) -> Iterator[tuple[str, str]]:
    """The files of the hooks' folder that are for this VM or for all VMs: name and text."""
    folder = config / VM_FOLDERS / vm
    for path in [config / HOST_FILE, *sorted(folder.rglob("*"))]:
        if path.is_file():
            try:
                yield str(path.relative_to(config)), path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise HookError(f"{path}: cannot be read: {error}") from None


def told(plan: Likeness) -> Iterator[str]:
    """A likeness in lines of text: what is wrong, which addresses differ, and what it lacks."""
    for line in plan.wrong:
        yield f"wrong: {line}"
    for placed in plan.placed:
        model = placed.wanted.model.partition(",")[0]
        yield f"{placed.wanted.function} is {placed.address} there ({model})"
    known = {placed.wanted.function.address for placed in plan.placed}
    for ours, there in plan.addresses.items():
        if ours not in known:
            yield f"{ours} is {there} there"
    numbers = plan.processors.cpus
    if any(ours != there for ours, there in numbers.items()):
        yield f"CPUs {_ordered(numbers)} are {format_list(numbers.values())} there, in this order"
    for line in plan.lost:
        yield f"not there: {line}"


def _ordered(numbers: dict[int, int]) -> str:
    return ",".join(str(ours) for ours, _ in sorted(numbers.items(), key=lambda pair: pair[1]))


def emulated_host() -> Runner:
    """The module that has an emulated host, from what install.sh has put beside this program or
    from this program's checkout: root runs nothing from any other folder. Raises HookError if there
    is none."""
    beside = Path(vfio_hooks.__path__[0]).parent
    file = Path(_RUNNER.replace(".", "/")).with_suffix(".py")
    folder = next((top for top in (beside / "installer", beside) if (top / file).is_file()), None)
    if folder is None:
        raise HookError(
            f"the emulated host is not here: there is no {beside}/installer/{file}",
            "install this program as root, by its package, install.sh or vfio-hooks install",
        )
    if find("apt-get") is None:
        raise HookError(
            "the emulated host is made of Debian's packages, and there is no apt-get here",
            "take a snapshot, and use it on Debian: vfio-hooks snapshot; rehearse --host FILE",
        )
    if folder != beside:
        sys.path.insert(0, str(folder))
    found: Runner = importlib.import_module(_RUNNER)
    return found
