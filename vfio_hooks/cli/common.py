"""Options that several verbs have, and what they mean."""

import argparse
import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import TypeAlias

from vfio_hooks import HOOKS, STATE
from vfio_hooks.cli.metavars import DIR, PATH
from vfio_hooks.config import home
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import is_uuid
from vfio_hooks.errors import HookError, did_you_mean
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def add_verb(
    verbs: Verbs, name: str, run: Run, line: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """A verb's parser, whose arguments `run` is called with; `line` is for the list of verbs."""
    parser = verbs.add_parser(
        name,
        help=line,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_paths(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add those of --root, --config-dir and --state-dir that `names` has."""
    texts = {
        "root": (
            "/",
            "where the host is, if not in /: a folder, or a file made by vfio-hooks snapshot",
        ),
        "config-dir": (HOOKS, "the folder of vfio-hooks.toml and qemu.d"),
        "state-dir": (STATE, "the folder of the journals"),
    }
    for name in names:
        default, text = texts[name]
        parser.add_argument(
            f"--{name}",
            metavar=PATH if name == "root" else DIR,
            default=default if name == "root" else None,
            help=f"{text} (default: {default})",
        )


def paths(arguments: argparse.Namespace) -> Paths:
    """The places that the options of `add_paths` name, or the usual ones for options not given.

    A host in a file is unpacked, and removed when this process ends. Raises HookError if the file
    or folder has no host in it.
    """
    host = Host(_root(getattr(arguments, "root", "/")))
    config, state = (getattr(arguments, name, None) for name in ("config_dir", "state_dir"))
    # Another host has folders of its own; what changes those here is meant for this machine.
    return Paths(
        config=host.path(HOOKS) if config is None else config.rstrip("/") or "/",
        state=host.path(STATE) if state is None else state,
        root=host.root or "/",
    )


def _root(path: str) -> str:
    root = _unpacked(path) if os.path.isfile(path) else path
    # On an empty host nothing is wrong and nothing is changed, which would be no answer.
    if path != "/" and not Host(root).names("/sys"):
        raise HookError(
            f"{path} is not a host: its /sys is empty or missing",
            "--root takes a file of vfio-hooks snapshot, or a folder with a host's sys and proc",
        )
    return root


def _unpacked(path: str) -> str:
    from vfio_hooks.snapshot.archive import unpack

    folder = tempfile.mkdtemp(prefix="vfio-hooks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return unpack(path, folder)


def refuse_mistyped(vm: str, ledger: Ledger, here: Paths) -> None:
    """Raise HookError for a name that is probably a mistyped one: no managed VM has it, but it is
    nearly the name of a VM with changes."""
    guess = did_you_mean(vm, {journal.vm for journal in ledger.journals.values()})
    if guess and not is_uuid(vm.lower()) and home(here.config, vm) is None:
        raise HookError(f"nothing is changed by {vm}", guess)


def need_root(what: str) -> None:
    """Raise HookError for a user who cannot do this."""
    if os.geteuid():
        raise HookError(f"{what} needs root", "try again with sudo")
