"""`vfio-hooks manual`: the manual pages."""

import argparse
import signal
import subprocess
import sys

from vfio_hooks.cli.common import Verbs, add_verb
from vfio_hooks.cli.terminal import say
from vfio_hooks.manual import PAGES

_EPILOG = """\
install.sh puts the pages where man looks for them. This shows one with man, where it is there
and the output is a terminal; else it prints what man reads.

examples:
  vfio-hooks manual
  vfio-hooks manual vfio-hooks.toml
  vfio-hooks manual vfio-hooks.toml > vfio-hooks.toml.5
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "manual",
        run,
        line="show a manual page, also of the configuration and of findings",
        description="Show a manual page: vfio-hooks(1), vfio-hooks.toml(5), vfio-hooks-check(7)\n"
        "or vfio-hooks-migration(7).",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "page",
        metavar="PAGE",
        nargs="?",
        choices=PAGES,
        default="vfio-hooks",
        help=f"the page: {' or '.join(PAGES)} (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from vfio_hooks.manual import page

    text = page(arguments.page)
    if not (sys.stdout.isatty() and _shown(text)):
        say(text.rstrip("\n"))
    return 0


def _shown(text: str) -> bool:
    """Whether man shows it."""
    # Ctrl-C is for the pager.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(["man", "-l", "-"], input=text.encode()).returncode == 0
    except OSError:
        return False
