"""`vfio-hooks check --fix`: show what would be better in a domain's XML, and write it after
asking."""

import argparse
import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from vfio_hooks.cli import xml
from vfio_hooks.cli.redefine import ask, keep, redefine, show_difference, whole_xml
from vfio_hooks.cli.terminal import say
from vfio_hooks.errors import HookError, reason

if TYPE_CHECKING:
    from vfio_hooks.check.fixing import Fixed
    from vfio_hooks.check.rule import Patient


def add_fix(parser: argparse.ArgumentParser) -> None:
    """Add --fix and what belongs to it."""
    parser.add_argument(
        "--fix",
        action="store_true",
        help="show an improved XML of the domain, and write it after asking",
    )
    parser.add_argument("--yes", action="store_true", help="with --fix: write it without asking")


def run(arguments: argparse.Namespace, patient: "Patient", silenced: Collection[str]) -> int:
    """Fix the domain that the arguments name. Returns 1 if a fix was needed and not made."""
    from vfio_hooks.check.fixing import mend

    if patient.guest is None or arguments.json:
        raise HookError(
            "--fix needs a VM, and does not work with --json", "vfio-hooks check VM --fix"
        )
    if not arguments.xml and not patient.host.is_this_machine:
        raise HookError("--fix with --root cannot change libvirt's XML", "give a file: --xml FILE")
    if arguments.xml == "-":
        raise HookError("--fix cannot write standard input", "give a file: --xml FILE")
    if arguments.xml:
        text = xml.from_file(arguments.xml)
    else:
        text = whole_xml(arguments.vm, arguments.connect)
    fixed = mend(patient, text, silenced)
    if not fixed.names:
        say("nothing in the XML needs to be fixed")
        return 0
    say(f"for: {', '.join(fixed.names)}")
    if arguments.xml:
        return int(not _written(arguments.xml, fixed, arguments.yes))
    new, yes, uri = fixed.after, arguments.yes, arguments.connect
    return int(not redefine(arguments.vm, text, new, yes=yes, uri=uri))


def _written(path: str, fixed: "Fixed", yes: bool) -> bool:
    """As `redefine`, for a file; the old one is kept beside it."""
    show_difference(fixed.before, fixed.after)
    if not yes and not ask(f"write {path} like this?"):
        say("nothing was changed")
        return False
    folder, name = os.path.split(os.path.abspath(path))
    kept = keep(name.removesuffix(".xml"), fixed.before, folder)
    try:
        with open(path, "wb") as file:
            file.write(fixed.after)
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None
    say(f"{path} is written; the old file is kept: {kept}")
    return True
