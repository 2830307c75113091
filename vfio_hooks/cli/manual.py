"""`vfio-hooks manual`: the manual pages, which `python3 -m manual` makes in a checkout."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from vfio_hooks.cli.common import Verbs, add_verb
from vfio_hooks.cli.terminal import say

FOLDER = Path(__file__).parents[1] / "man"
PAGES = ("vfio-hooks.1", "vfio-hooks.toml.5", "vfio-hooks-check.7", "vfio-hooks-migration.7")
"""The files of the pages, as man(1) names them."""
_EPILOG = """\
install.sh puts the pages where man looks for them. This verb shows one with man, if man is
installed and the output is a terminal; otherwise it prints the page's source.

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
    names = [name.rpartition(".")[0] for name in PAGES]
    parser.add_argument(
        "page",
        metavar="PAGE",
        nargs="?",
        choices=names,
        default=names[0],
        help=f"the page: {' or '.join(names)} (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    (file,) = (name for name in PAGES if name.rpartition(".")[0] == arguments.page)
    text = (FOLDER / file).read_text(encoding="ascii")
    if not (sys.stdout.isatty() and _shown(text)):
        say(text.rstrip("\n"))
    return 0


def _shown(text: str) -> bool:
    """Whether man shows it."""
    # Ctrl-C is meant for the pager.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(["man", "-l", "-"], input=text.encode()).returncode == 0
    except OSError:
        return False
