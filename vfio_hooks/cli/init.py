"""`vfio-hooks init`: a first vm.toml, and better pins."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from vfio_hooks import VM_FILE, VM_FOLDERS
from vfio_hooks.cli.common import Verbs, add_paths, add_verb, paths
from vfio_hooks.cli.domains import Defined, add_sources, pick, sources
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.redefine import ask, redefine, show_difference, whole_xml
from vfio_hooks.cli.terminal import clean, paint
from vfio_hooks.cli.trial import beside_scripts, tried
from vfio_hooks.cli.xml import SYSTEM
from vfio_hooks.config.starter import Choice, choices, toml
from vfio_hooks.domain import Domain, parse
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.cpu import nodes, topology
from vfio_hooks.host.memory import amount, fits
from vfio_hooks.placement.choice import Placement, place
from vfio_hooks.placement.cputune import repin
from vfio_hooks.placement.room import room
from vfio_hooks.plural import counted, numbered
from vfio_hooks.record import replace

_EPILOG = """\
The file has the tables that this VM needs on this host, each with the reason. A table that would
keep the VM from starting now, or that does the same as one of the VM's scripts, is a comment that
says why. Nothing is overwritten without asking.

With --pins, vCPUs are pinned to whole cores. If they fit, these are in the NUMA node of the
graphics card and share one L3 cache. The core of CPU 0 is left to the host. The emulator's and I/O
threads go to nearby CPUs of the host. The memory is bound to the same node, and the guest is told
which threads share a core. CPUs that other VMs are pinned to are not used. A guest with NUMA nodes
of its own has the vCPUs of each where its memory is (<memnode>).

With --xml libvirt is not asked, and the XML with new pins is printed on standard output.

examples:
  vfio-hooks init win11 --dry-run              only show what it would write
  vfio-hooks init win11
  vfio-hooks init win11 --pins                 also pin the vCPUs in the domain's XML
  vfio-hooks init --xml win11.xml --pins --config-dir ./hooks > new.xml
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "init",
        run,
        line="write a first vm.toml for a VM, and pin its vCPUs",
        description="Write a commented vm.toml for a VM and, with --pins, pin its vCPUs to "
        "the\nCPUs that suit it best.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID; optional with one --xml")
    parser.add_argument(
        "--pins", action="store_true", help="choose CPUs, and write them into the domain"
    )
    parser.add_argument(
        "--share", action="store_true", help="also use CPUs that other VMs are pinned to"
    )
    parser.add_argument("--dry-run", action="store_true", help="show everything, write nothing")
    parser.add_argument(
        "--yes",
        "--force",
        action="store_true",
        help="overwrite and define without asking; --force is its old name",
    )
    add_sources(parser)
    add_paths(parser, "root", "config-dir")


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    if os.path.isfile(arguments.root) and arguments.config_dir is None and not arguments.dry_run:
        raise HookError(
            f"{arguments.root}: a vm.toml cannot be written into a snapshot",
            "add --dry-run, or --config-dir DIR",
        )
    host = here.host()
    found, failure = sources(arguments, host)
    if failure:
        raise failure
    chosen = _chosen(arguments.vm, found, host)
    domain = chosen.domain
    if arguments.pins:
        others = [one.domain for one in found if one is not chosen]
        placement = _place(chosen, [] if arguments.share else others, host)
        _tell_placement(domain, placement)
        _tell_memory(domain, placement, host)
        if not _pin(chosen, placement, arguments, host):
            return 1
        domain = replace(
            domain, vcpu_pins={v: frozenset({cpu}) for v, cpu in enumerate(placement.vcpus)}
        )
    made = tried(domain, beside_scripts(domain, list(choices(domain, host)), here), here)
    _tell(made)
    path = f"{here.config}/{VM_FOLDERS}/{domain.name}/{VM_FILE}"
    if arguments.dry_run:
        _say(f"{path} would be:")
        _say(clean_lines(toml(domain, made)))
    elif _may_write(path, arguments.yes):
        _write(path, toml(domain, made))
        _say(f"{clean(path)} is written; see what it does: {clean(_plan(chosen, arguments))}")
    return 0


def _plan(chosen: Defined, arguments: argparse.Namespace) -> str:
    """The command that shows what the file does, on the same host and for the same domain."""
    words = ["--xml", chosen.file] if chosen.file else [chosen.domain.name]
    for option, given, usual in (
        ("--connect", arguments.connect, SYSTEM),
        ("--root", arguments.root, "/"),
        ("--config-dir", arguments.config_dir, None),
    ):
        words += [option, given] if given != usual else []
    return shlex.join(["vfio-hooks", "plan", *words])


def _chosen(vm: str | None, found: Sequence[Defined], host: Host) -> Defined:
    if vm is not None:
        return pick(vm, found, host)
    if len(found) != 1:
        names = ", ".join(one.domain.name for one in found) or "none is defined"
        raise HookError("which VM?", f"give its name: {names}")
    return found[0]


def _place(chosen: Defined, others: Sequence[Domain], host: Host) -> Placement:
    found = topology(host)
    return place(found, room(host, found, chosen.domain).wish(others))


def _pin(chosen: Defined, placement: Placement, arguments: argparse.Namespace, host: Host) -> bool:
    """Put the pins into the domain. Returns False if the user does not want that."""
    if arguments.dry_run:
        show_difference(chosen.xml, _placed(chosen.xml, placement, arguments))
        return True
    if arguments.xml or not host.is_this_machine:
        sys.stdout.write(_placed(chosen.xml, placement, arguments).decode())
        return True
    vm = chosen.domain.uuid
    old = whole_xml(vm, arguments.connect)
    if parse(old) != chosen.domain:
        raise HookError(f"{chosen.domain.name} was changed just now", "try again")
    new = _placed(old, placement, arguments)
    return redefine(vm, old, new, yes=arguments.yes, uri=arguments.connect)


def _placed(xml: bytes, placement: Placement, arguments: argparse.Namespace) -> bytes:
    """The domain with its pins, and with the memory and the cores that go with them."""
    from vfio_hooks.check.fixing import consistent
    from vfio_hooks.check.rule import Patient

    here = paths(arguments)
    return consistent(Patient(here.host(), here), repin(xml, placement))


def _tell_placement(domain: Domain, placement: Placement) -> None:
    cpus = placement.vcpus
    chosen = f"CPU{'s' * (len(cpus) > 1)} {' '.join(map(str, cpus))}"
    text = f"{clean(domain.name)}: {counted(len(cpus), 'vCPU')} to {chosen}"
    _say(paint(text, "bold", sys.stderr))
    _say(f"  emulator to {numbered('CPU', placement.emulator)}")
    for number, one in enumerate(placement.iothreads, 1):
        _say(f"  I/O thread {number} to {numbered('CPU', one)}")
    for line in (*placement.reasons, *placement.fewer):
        _say(f"  - {line}")


def _tell_memory(domain: Domain, placement: Placement, host: Host) -> None:
    """Say where the VM's memory will be, or why it cannot be near."""
    numbers = frozenset(placement.nodes)
    known = [node for node in nodes(host) if node.memory]
    if len(known) < 2 or domain.cell_nodes or domain.numa_nodes == numbers:
        return
    where = "is on any node" if domain.numa_nodes is None else "is on another node"
    homes = [node for node in known if node.number in numbers]
    if fits(domain.memory, homes):
        there = numbered("node", numbers)
        _say(f"  - its memory {where}, and will be bound to {there} with these pins")
    else:
        here = amount(sum(node.memory for node in homes))
        _say(f"  - its memory {where}; there is too little memory near these CPUs: {here} in all")


def _tell(made: Sequence[Choice]) -> None:
    for choice in made:
        mark = paint("+", "green", sys.stderr) if choice.chosen else paint("-", "dim", sys.stderr)
        _say(f"{mark} {choice.table} {clean(choice.why)}")
        for problem in choice.problems:
            _say(f"{paint('!', 'red', sys.stderr)} {choice.table} {clean(problem)}")


def clean_lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.splitlines())


def _say(text: str) -> None:
    """Print to standard error, because standard output is for XML."""
    print(text, file=sys.stderr)


def _may_write(path: str, yes: bool) -> bool:
    return yes or not os.path.lexists(path) or ask(f"{path} exists: overwrite it?")


def _write(path: str, text: str) -> None:
    try:
        WritableHost("/").keep(path, text)
    except OSError as error:
        raise HookError(
            f"{path}: cannot be written: {reason(error)}", "try with sudo, or --dry-run"
        ) from None
