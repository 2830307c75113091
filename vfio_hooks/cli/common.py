"""Options that several verbs have, and what they say."""

import argparse
import os
from collections.abc import Callable
from typing import TypeAlias

from vfio_hooks.config import FOLDER
from vfio_hooks.errors import HookError
from vfio_hooks.places import Places
from vfio_hooks.state import FOLDER as STATE

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
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_places(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add those of --root, --config-dir and --state-dir that `names` has."""
    texts = {
        "root": ("/", "where the host's /sys and /proc are, if not in / (a captured host)"),
        "config-dir": (FOLDER, "the folder of vfio-hooks.toml and qemu.d"),
        "state-dir": (STATE, "the folder of the journals"),
    }
    for name in names:
        default, text = texts[name]
        parser.add_argument(
            f"--{name}", metavar="DIR", default=default, help=f"{text} (default: {default})"
        )


def places(arguments: argparse.Namespace) -> Places:
    """What the options of `add_places` say; the usual place for an option that a verb lacks."""
    return Places(
        config=getattr(arguments, "config_dir", FOLDER).rstrip("/") or "/",
        state=getattr(arguments, "state_dir", STATE),
        root=getattr(arguments, "root", "/"),
    )


def need_root(what: str) -> None:
    """Raise HookError for a user who cannot do this."""
    if os.geteuid():
        raise HookError(f"{what} needs root", "try again with sudo")
