"""vfio-hooks(1), out of the command's parser."""

from vfio_hooks import __version__
from vfio_hooks.cli import parser, tree
from vfio_hooks.cli.tree import Argument, Verb
from vfio_hooks.manual.roff import Page

_DESCRIPTION = """\
libvirt runs a hook, `/etc/libvirt/hooks/qemu`, at every event of every VM. The hook of vfio-hooks
prepares the host for the VMs that have a folder in `/etc/libvirt/hooks/qemu.d`, and undoes just
that when they end. What it is to do for a VM is in the folder's file vm.toml, which
`vfio-hooks.toml`(5) describes.

This command shows what the hook would do, what it did and what is changed now, checks the
configuration, and undoes what was left behind. Only init, undo, hook and
check --fix change anything.

Every verb has the option `--help`. With `--json` a verb prints one JSON document for programs.
"""
_EXIT = (
    (("`0`",), "All went well."),
    (
        ("`1`",),
        "A failure, told in one line on standard error: what, where, why, and what to do. Of "
        "validate, status and verify also: something is wrong with what was looked at; of check: "
        "there is an error or a warning.",
    ),
    (("`2`",), "The command was called wrongly; standard error says how it is called."),
)
_ENVIRONMENT = (
    (("`NO_COLOR`",), "When it is set, nothing is coloured. Only terminals see colours anyway."),
    (("`VFIO_HOOKS_DEBUG`",), "With the value 1 a defect is told with where it is in the program."),
)
_FILES = (
    (("`/etc/libvirt/hooks/qemu`",), "What libvirt runs."),
    (
        ("`/etc/libvirt/hooks/qemu.kept`",),
        "The hook that was there before the installation; it is run after ours.",
    ),
    (("`/etc/libvirt/hooks/qemu.d/VM/`",), "The folder of a VM that is managed."),
    (("`/etc/libvirt/hooks/vfio-hooks.toml`",), "Defaults for all VMs."),
    (
        ("`/run/vfio-hooks/UUID.journal`",),
        "What is changed for a VM now, a line of JSON for each change; `base` is the value that "
        "the host had. The file is there before the change is, and gone after it is undone.",
    ),
    (
        ("`/run/vfio-hooks/lock`",),
        "Held while an event is handled, and not empty until it has ended: so an event that was "
        "cut off is known, and the next event of a managed VM, or the end of any, undoes it.",
    ),
    (
        ("`/var/lib/vfio-hooks/devices/UUID`",),
        "What the VM's PCI devices were when it was first started with them, a line each. With "
        "another one at an address it does not start; without the line it does.",
    ),
    (
        ("`/run/vfio-hooks/idle/VM/`",),
        "Notes of the events in which a running VM has nothing to do, for the hook to end there at "
        "once. They count only while its configuration and the program are unchanged.",
    ),
)


def page() -> str:
    top, verbs = tree.read(parser())
    made = Page(
        "vfio-hooks",
        1,
        f"vfio-hooks {__version__}",
        "prepare a host for VMs with passed-through devices, and undo it",
    )
    made.section("SYNOPSIS")
    for verb in verbs:
        made.prose(f"`{_usage(verb)}`")
    made.section("DESCRIPTION")
    made.prose(_DESCRIPTION)
    made.section("OPTIONS")
    _arguments(made, top)
    made.section("VERBS")
    for verb in verbs:
        made.part(verb.name)
        made.prose(_sentence(verb.description))
        _arguments(made, verb)
        made.prose(verb.epilog)
    for title, items in (("EXIT STATUS", _EXIT), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        made.section(title)
        for tags, text in items:
            made.item(tags, text)
    made.section("EXAMPLES")
    made.prose(top.epilog.removeprefix("examples:\n"))
    made.section("SEE ALSO")
    made.prose(
        "`vfio-hooks.toml`(5), `vfio-hooks-check`(7), `vfio-hooks-migration`(7), `virsh`(1), "
        "`journalctl`(1), https://libvirt.org/hooks.html"
    )
    return str(made)


def _usage(verb: Verb) -> str:
    return verb.usage.replace("[-h] ", "")


def _arguments(page: Page, verb: Verb) -> None:
    for argument in (*verb.positionals, *verb.options):
        page.item([_tag(argument)], _sentence(argument.text) or "A VM's name.")


def _tag(argument: Argument) -> str:
    if not argument.flags:
        return f"`{argument.name}`"
    value = f" {argument.name}" if argument.name else ""
    return ", ".join(f"`{flag}`{value}" for flag in argument.flags)


def _sentence(text: str) -> str:
    """A help text as a sentence; one that starts with a value keeps its case."""
    whole = text[:1].upper() + text[1:] if text[:1].isalpha() else text
    return whole if not whole or whole.endswith(".") else f"{whole}."
