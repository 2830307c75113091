"""`vfio-hooks plan`: what would be done when a VM starts."""

import argparse
import os
from collections.abc import Iterator
from shlex import quote

from vfio_hooks import ENDING, PLANNED, VM_FOLDERS
from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.domains import add_domain, one_domain
from vfio_hooks.cli.forecast import forecast, tell
from vfio_hooks.cli.metavars import FACILITIES, VM
from vfio_hooks.config import Config, load, managed
from vfio_hooks.errors import HookError, did_you_mean
from vfio_hooks.event import Event
from vfio_hooks.migrate import doing
from vfio_hooks.paths import Paths
from vfio_hooks.record import replace

_EPILOG = """\
Nothing is changed. Root is not needed, but only root can see what other VMs have changed. Every
line is "what: old → new", and says how the change will be undone. The old values are the current
ones. Only changes that this VM still has in place count as undone, as its start undoes them first.

--use takes tables that may be empty: inhibit, display, session, sriov, gpu, mdev, usb, pci, shm,
hugepages, governor, memory, cpus, irqs, verify. The vm.toml is then not used.

examples:
  vfio-hooks plan win11                        as libvirt has it
  vfio-hooks plan win11 --use pci              before there is a vm.toml: with an empty [pci]
  virsh dumpxml win11 | vfio-hooks plan --xml -
  vfio-hooks plan --xml win11.xml --root /tmp/captured-host --config-dir ./hooks
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "plan",
        run,
        line="show what a VM's start would change, and what would undo it",
        description="Show what would be done to this host when a VM starts.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID; optional with --xml")
    add_domain(parser)
    parser.add_argument(
        "--use", metavar=FACILITIES, help="plan with these facilities instead of the vm.toml"
    )
    add_paths(parser, "root", "config-dir", "state-dir")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    domain = one_domain(arguments, here.host()).domain
    if arguments.use is None:
        if os.path.isfile(arguments.root) and arguments.config_dir is None:
            raise HookError(
                f"{arguments.root}: a snapshot of a host has no vm.toml",
                "try --use pci, or name a folder with --config-dir",
            )
        config = _config(here.config, domain.name)
    else:
        config = Config.use(filter(None, (name.strip() for name in arguments.use.split(","))))
    events = [Event(domain.name, op) for op in PLANNED]
    events += [Event(domain.name, op, "end") for op in ENDING]
    found = forecast(domain, config, here, events)
    notes = (*found.notes, *_doubled(config, domain.name, here))
    return tell(replace(found, notes=notes), arguments.json)


def _doubled(config: Config, vm: str, here: Paths) -> Iterator[str]:
    """A note for each table that does the same as a script of the VM."""
    done = doing(here.config, vm, here.root) if config.folder else {}
    for table in dict.fromkeys(one.name for one in config.tables):
        if table in done:
            yield f"{table}: {done[table]} does the same (vfio-hooks migrate {quote(vm)})"


def _config(folder: str, vm: str) -> Config:
    config = load(folder, vm)
    if config is None:
        raise HookError(
            f"{vm} is not managed: there is no folder {folder}/{VM_FOLDERS}/{vm}",
            f"{did_you_mean(vm, managed(folder))} make that folder, or try --use pci",
        )
    return config
