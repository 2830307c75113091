"""`vfio-hooks completion`: what a shell needs to complete our command line."""

import argparse
from importlib import import_module

from vfio_hooks.cli.common import Verbs, add_paths, add_verb, paths
from vfio_hooks.cli.terminal import say

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
install.sh puts the scripts where the shells look for them.

examples:
  source <(vfio-hooks completion bash)         in this shell, now
  vfio-hooks completion zsh > ~/.zfunc/_vfio-hooks
  vfio-hooks completion fish > ~/.config/fish/completions/vfio-hooks.fish
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "completion",
        run,
        line="print the completion script of a shell",
        description="Print a script with which a shell completes verbs, options and VM names.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    add_paths(parser, "config-dir", "state-dir")


def run(arguments: argparse.Namespace) -> int:
    from vfio_hooks.cli import parser, tree

    here = paths(arguments)
    top, verbs = tree.read(parser())
    shell = import_module(f"vfio_hooks.cli.shells.{arguments.shell}")
    say(shell.script(top, verbs, here.config, here.state).rstrip("\n"))
    return 0
