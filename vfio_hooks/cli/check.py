"""`vfio-hooks check`: what is wrong on this host, with the hook, and in a domain's XML."""

import argparse
from shlex import quote

from vfio_hooks.cli import findings, fix
from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.domains import add_domain, one_domain, sources
from vfio_hooks.cli.metavars import VM
from vfio_hooks.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.check.rule import Guest
    from vfio_hooks.config import Config
    from vfio_hooks.domain import Domain
    from vfio_hooks.host import Host
    from vfio_hooks.paths import Paths

_EPILOG = """\
With a domain, it begins with what would keep the VM from starting now, as `plan` finds it. An
error is something that does not work, a warning is something that costs performance or safety, and
a hint is something that may help. The worst come first. Each finding has a name, and man
vfio-hooks-check lists them all. [check] in vm.toml or vfio-hooks.toml silences findings:
silence = ["name"]. Nothing is changed without --fix. Some things only root can see.

The exit code is 0 if there is nothing worse than hints, and 1 if there is an error or a warning.
With --fix it is 1 if there was something to fix and it was not fixed.

examples:
  vfio-hooks check                            this host and the hook
  vfio-hooks check win11                      the same, and the domain win11, as libvirt has it
  vfio-hooks check win11 --why                with the reasons and their sources
  vfio-hooks check --xml win11.xml --root /tmp/captured-host
  vfio-hooks check win11 --fix                improve its XML: show the changes, then ask
  vfio-hooks check win11 --json | jq -r '.findings[] | select(.level == "error") | .name'
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "check",
        run,
        line="look for what is wrong or could be better",
        description="Look at this host, at the hook and at a domain's XML, and report what is "
        "wrong\nor could be better, why it matters, and what to do.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID of a domain")
    add_domain(parser)
    add_paths(parser, "root", "config-dir", "state-dir")
    add_json(parser)
    parser.add_argument(
        "--why", action="store_true", help="say why each finding matters, with the source"
    )
    fix.add_fix(parser)


def run(arguments: argparse.Namespace) -> int:
    from vfio_hooks.check import examine
    from vfio_hooks.check.guest import ADVICE
    from vfio_hooks.check.rule import Patient
    from vfio_hooks.config import examine as read
    from vfio_hooks.config import examine_defaults
    from vfio_hooks.host.pci import passed_displays

    here = paths(arguments)
    guest = _guest(arguments, here.host())
    vm = guest.domain.name if guest else None
    # What is wrong with the configuration is a finding itself.
    config = read(here.config, vm)[0] if vm else None
    quiet = config.silenced if config else examine_defaults(here.config)[0]
    tables = {table.name: table.options for table in config.tables} if config else {}
    others = _others(arguments, guest, here.host()) if guest else ()
    refusals = _refusals(guest, config, here)
    stopped = tuple(_stopped(config)) if config else ()
    patient = Patient(here.host(), here, guest, tables, others, refusals, stopped)
    if arguments.fix:
        return fix.run(arguments, patient, quiet)
    found = examine(patient, quiet)
    advice = ADVICE if guest and passed_displays(here.host(), guest.domain) else ()
    if arguments.json:
        findings.show_json(found, vm, quiet, advice)
    else:
        how = _how_to_fix(arguments, guest, here.host())
        findings.show(found, quiet, advice, how, arguments.why)
    return int(any(finding.level != "hint" for finding in found))


def _refusals(
    guest: "Guest | None", config: "Config | None", here: "Paths"
) -> "tuple[HookError, ...]":
    """Why a start of the VM would be refused now; nothing for one that runs or is not managed."""
    if guest is None or guest.running or config is None or not config.tables:
        return ()
    from vfio_hooks import PLANNED
    from vfio_hooks.cli.forecast import forecast
    from vfio_hooks.event import Event

    events = [Event(guest.domain.name, op) for op in PLANNED]
    try:
        return forecast(guest.domain, config, here, events).outlooks[-1].failures
    except HookError as error:
        return (error,)


def _stopped(config: "Config") -> "Iterator[str]":
    """The services that do not run while the VM does."""
    for table in config.tables:
        if table.name == "service" and table.options.action == "stop":
            yield table.options.name


def _how_to_fix(arguments: argparse.Namespace, guest: "Guest | None", host: "Host") -> str:
    if guest is None or arguments.xml == "-":
        return ""
    if arguments.xml:
        return "the same command with --fix"
    vm = quote(guest.domain.name)
    return f"sudo vfio-hooks check {vm} --fix" if host.is_this_machine else ""


def _others(arguments: argparse.Namespace, guest: "Guest", host: "Host") -> "tuple[Domain, ...]":
    """The other domains, as far as they can be read; none with --xml, as libvirt is not asked."""
    if arguments.xml is not None:
        return ()
    found, _ = sources(arguments, host, tell=lambda text: None)
    return tuple(one.domain for one in found if one.domain.uuid != guest.domain.uuid)


def _guest(arguments: argparse.Namespace, host: "Host") -> "Guest | None":
    if arguments.xml is None and arguments.vm is None:
        return None
    from vfio_hooks.check.rule import Guest
    from vfio_hooks.domain.text import element

    found = one_domain(arguments, host)
    root = element(found.xml)
    # libvirt writes an id only for a running domain.
    return Guest(found.domain, root, found.running or root.get("id") is not None)
