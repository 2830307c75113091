"""Completion scripts of the shells, each made of the command line as `cli.tree` has it.

Names of VMs are looked up while the user types: they are folders of qemu.d, and for verbs that
are about what was done, also the VMs that a journal in the state folder is of.
"""

PAST = ("status", "undo", "log")
"""Verbs that are also for VMs without a folder."""
NAMES = r"""s/^{"record":"begin".*"vm":"\([^"\\]*\)".*/\1/p"""
"""The sed(1) script that finds a VM's name in its journal; a name that JSON has to escape is left
to be typed."""


def quote(text: str) -> str:
    """A text as one word of sh, bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"
