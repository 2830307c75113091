"""`vfio-hooks validate`: are the configuration files right?"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from vfio_hooks import HOST_FILE, VM_FOLDERS
from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.terminal import clean, complain, paint, say, say_json
from vfio_hooks.config import examine, examine_defaults, managed
from vfio_hooks.errors import HookError, nearest, unreadable
from vfio_hooks.event import OPERATIONS, Event
from vfio_hooks.hook.scripts import find
from vfio_hooks.record import asdict

_EPILOG = """\
Every problem of every file is shown in one line, with the file and the line number. A VM's start
begins with the same check. Files that are not used, because their name or place is wrong, are
shown as well, unless [check] silences file-unused.

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
        description="Check the configuration files as a whole, without looking at the host.",
        epilog=_EPILOG,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("vm", metavar=VM, nargs="?", help="check the files of one VM")
    which.add_argument(
        "--all", action="store_true", help="check the files of all VMs (the default)"
    )
    add_paths(parser, "config-dir")
    add_json(parser)


@dataclass
class _Findings:
    """A line for everything that is right, each problem once, and the VMs for which nothing is
    done."""

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def add(self, name: str, does: str, problems: Sequence[HookError]) -> None:
        self.wrong += [str(problem) for problem in problems if str(problem) not in self.wrong]
        if does and not problems:
            self.right.append(f"{name}: {does}")
        elif not problems:
            self.idle.append(
                f"{name}: nothing is done for this VM: it has no table and no executable; write "
                f"[pci] into its vm.toml, or try vfio-hooks init"
            )


def run(arguments: argparse.Namespace) -> int:
    folder = paths(arguments).config
    vms = _managed(folder)
    findings = _Findings()
    if arguments.vm is None:
        _examine_host_wide(folder, findings)
    elif arguments.vm in vms:
        vms = [arguments.vm]
    else:
        raise HookError(
            f"{arguments.vm} is not managed: there is no folder "
            f"{folder}/{VM_FOLDERS}/{arguments.vm}",
            nearest(arguments.vm, vms) if vms else "vfio-hooks init writes a vm.toml there",
        )
    for vm in vms:
        _examine_vm(folder, vm, findings)
    if arguments.json:
        say_json(asdict(findings))
    else:
        _show(findings, folder)
    return int(bool(findings.wrong))


def _examine_host_wide(folder: str, findings: _Findings) -> None:
    from vfio_hooks.check.hook.unused import beside_folders, unused

    silenced, problems = examine_defaults(folder)
    if os.path.lexists(f"{folder}/{HOST_FILE}"):
        findings.add(HOST_FILE, "host-wide defaults", problems)
    if unused.name not in silenced:
        findings.wrong += map(str, beside_folders(folder))


def _examine_vm(folder: str, vm: str, findings: _Findings) -> None:
    from vfio_hooks.check.hook.unused import in_folder, unused

    config, problems = examine(folder, vm)
    home = f"{folder}/{VM_FOLDERS}/{vm}"
    does = [f"[{table.name}]" for table in config.tables] if config else []
    for op, subop in OPERATIONS.items():
        try:
            does += [f"{op}/{subop}"] if find(home, Event(vm, op, subop)) else []
        except HookError as error:
            problems.append(error)
        except OSError as error:
            problems.append(unreadable(error.filename, error))
    if not (config and unused.name in config.silenced):
        problems += in_folder(home)
    findings.add(f"{VM_FOLDERS}/{vm}", ", ".join(does), problems)


def _show(findings: _Findings, folder: str) -> None:
    for line in findings.right:
        say(f"{paint('OK', 'green')}  {clean(line)}")
    for line in findings.idle:
        say(f"{paint('--', 'yellow')}  {clean(line)}")
    for line in findings.wrong:
        complain(line)
    if not (findings.right or findings.idle or findings.wrong):
        say(f"no VM is managed: there is no folder in {folder}/{VM_FOLDERS}")


def _managed(folder: str) -> list[str]:
    try:
        os.listdir(folder)
        return managed(folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            hint = "install.sh makes it; --config-dir names another folder"
            raise HookError(f"{folder}: there is no such folder", hint) from None
        raise unreadable(error.filename, error) from None
