"""`vfio-hooks manual`: the manual pages."""

import argparse

from vfio_hooks.cli.common import Verbs, add_verb
from vfio_hooks.cli.terminal import say
from vfio_hooks.manual import PAGES

_EPILOG = """\
install.sh puts the pages where man looks for them; this prints what man reads.

examples:
  vfio-hooks manual | man -l -
  vfio-hooks manual vfio-hooks.toml | man -l -
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "manual",
        run,
        line="print a manual page, also of the configuration and of findings",
        description="Print a manual page: vfio-hooks(1), vfio-hooks.toml(5), vfio-hooks-check(7)\n"
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

    say(page(arguments.page).rstrip("\n"))
    return 0
