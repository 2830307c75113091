"""`vfio-hooks validate`: are the configuration files right?"""

import argparse
import os
from dataclasses import dataclass, field

from vfio_hooks.cli.common import Verbs, add_json, add_places, add_verb, places
from vfio_hooks.cli.terminal import clean, complain, paint, say, say_json
from vfio_hooks.config import HOST_FILE, VM_FOLDERS, examine, examine_defaults
from vfio_hooks.errors import HookError, reason
from vfio_hooks.nearest import nearest

_EPILOG = """\
Every problem of every file is told, a line each, with the file and the line it is in.
It is the same check that a VM's start begins with.

examples:
  vfio-hooks validate                          the host-wide defaults and all VMs
  vfio-hooks validate win11
  vfio-hooks validate --config-dir ./hooks     before they are copied to /etc/libvirt/hooks
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "validate",
        run,
        line="check the configuration files",
        description="Check the configuration files, whole, and without looking at the host.",
        epilog=_EPILOG,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("vm", metavar="VM", nargs="?", help="check that of one VM")
    which.add_argument("--all", action="store_true", help="check those of all VMs (the default)")
    add_places(parser, "config-dir")
    add_json(parser)


@dataclass
class _Findings:
    """What is right, as a line each, and what is wrong, every problem once."""

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, tables: str, problems: list[HookError]) -> None:
        self.wrong += [str(problem) for problem in problems if str(problem) not in self.wrong]
        if not problems:
            self.right.append(f"{name}: {tables}")


def run(arguments: argparse.Namespace) -> int:
    folder = places(arguments).config
    vms = _managed(folder)
    findings = _Findings()
    if arguments.vm is None:
        if os.path.lexists(f"{folder}/{HOST_FILE}"):
            _, problems = examine_defaults(folder)
            findings.add(HOST_FILE, "host-wide defaults", problems)
    elif arguments.vm in vms:
        vms = [arguments.vm]
    else:
        raise HookError(
            f"{arguments.vm} is not managed: no folder {folder}/{VM_FOLDERS}/{arguments.vm}",
            nearest(arguments.vm, vms),
        )
    for vm in vms:
        config, problems = examine(folder, vm)
        tables = ", ".join(f"[{table.name}]" for table in config.tables) if config else ""
        findings.add(f"{VM_FOLDERS}/{vm}", tables or "no tables: nothing is done", problems)
    if arguments.json:
        say_json({"right": findings.right, "wrong": findings.wrong})
    else:
        _show(findings, folder)
    return int(bool(findings.wrong))


def _show(findings: _Findings, folder: str) -> None:
    for line in findings.right:
        say(f"{paint('OK', 'green')}  {clean(line)}")
    for line in findings.wrong:
        complain(line)
    if not findings.right and not findings.wrong:
        say(f"no VM is managed: there is no folder in {folder}/{VM_FOLDERS}")


def _managed(folder: str) -> list[str]:
    """The names of all managed VMs."""
    path = f"{folder}/{VM_FOLDERS}"
    try:
        os.listdir(folder)
        return sorted(name for name in os.listdir(path) if os.path.isdir(f"{path}/{name}"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename == path:
            return []
        raise HookError(f"{error.filename}: cannot be read: {reason(error)}") from None
