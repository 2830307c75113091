"""`vfio-hooks boot`: what a host needs at boot, written into files and taken back."""

import argparse
import difflib
import re

from vfio_hooks.boot import MODPROBE, Before, Edit, Need, Wanted, Work
from vfio_hooks.boot.joining import ADDED, extended, together
from vfio_hooks.boot.journal import FILE, applied
from vfio_hooks.boot.needs import needs
from vfio_hooks.boot.planning import planned, tools
from vfio_hooks.boot.writing import apply, revert, steps
from vfio_hooks.cli import metavars
from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.domains import defined, from_file
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import CHANGES, clean, paint, say
from vfio_hooks.cli.xml import SYSTEM
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.pci import GROUPS
from vfio_hooks.quoting import joined
from vfio_hooks.record import replace

_EPILOG = f"""\
Everything else that vfio-hooks changes is undone when the VM ends, and is gone after a reboot. This
is not: it edits files of the boot loader and of modprobe, and runs the tools that update the boot
loader and the initramfs. It takes effect at the next boot. It writes the files of GRUB (as on
Debian), systemd-boot and kernel-install. For other loaders it prints the command or the edit.

If the loader has entries, one with today's parameters is added, "As before vfio-hooks boot".
{FILE} says what was written, until revert. A second apply, for another
VM, adds to that. revert with a VM's name takes back what only this VM needs, and without a name it
takes back everything. A file that you have edited since is left as it is.

examples:
  vfio-hooks boot show win11
  sudo vfio-hooks boot apply win11
  sudo vfio-hooks boot apply win11 --add default_hugepagesz=1G
  sudo vfio-hooks boot apply linux
  sudo vfio-hooks boot revert win11
  sudo vfio-hooks boot revert
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "boot",
        run,
        line="write what is needed at boot into the boot loader's files, or take it back",
        description="Show what this host needs at boot for its VMs, write it, or take it back.",
        epilog=_EPILOG,
    )
    parser.add_argument("what", choices=("show", "apply", "revert"), help="what to do")
    parser.add_argument(
        "vm", metavar=metavars.VM, nargs="?", help="for this VM, in addition to others"
    )
    parser.add_argument(
        "--add",
        metavar="WORD",
        action="append",
        default=[],
        type=_parameter,
        help="also add this kernel parameter",
    )
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument(
        "--xml", metavar=metavars.FILE, help='the domain\'s XML; "-": standard input'
    )
    parser.add_argument(
        "--connect", metavar="URI", default=SYSTEM, help="the libvirt to ask (default: %(default)s)"
    )
    add_paths(parser, "root")


def run(arguments: argparse.Namespace) -> int:
    host = paths(arguments).host()
    if arguments.what != "show" and host.is_this_machine:
        need_root(f"boot {arguments.what}")
    if arguments.what == "revert":
        return _revert(host, arguments)
    had = applied(host)
    wanted = extended(had.wanted, _wanted(arguments, host))
    if not (found := together(wanted)):
        say("everything that is needed at boot is there already")
        if not host.names(GROUPS):
            say(
                "but the IOMMU is off: vfio-hooks check says what to do; look here again after that"
            )
        if had.wanted:
            say("what was written is no longer needed; vfio-hooks boot revert takes it back")
        return 0
    return _change(host, arguments, wanted, found)


def _parameter(text: str) -> str:
    """A kernel parameter that means the same in a shell's double quotes, in GRUB's script and in
    systemd-boot's entries."""
    if not re.fullmatch(r"[\w.,:=/+@%*!~^\[\]-]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one plain kernel parameter, such as default_hugepagesz=1G; what has "
            "blanks, quotes or $ has to be written into the boot loader's file by hand"
        )
    return text


def _change(
    host: WritableHost, arguments: argparse.Namespace, wanted: tuple[Wanted, ...], found: list[Need]
) -> int:
    """Show what has to be written and, unless the verb is `show`, write it."""
    had = applied(host)
    work = planned(Before(host, had.work.edits), found)
    edits = steps(host, had, work)
    is_due = bool(edits) or not had.whole
    by_hand = _by_hand(host, had.work, work)
    if is_due or by_hand:
        both = replace(work, edits=(*had.work.edits, *edits))
        _tell(found, work.loader, by_hand, edits, tools(host, both))
    else:
        say(f"what is needed at boot is written already, for {_names(wanted)}; see {FILE}")
    if arguments.what == "show":
        return 0
    if is_due and arguments.what == "apply" and not arguments.yes and not ask("write this?"):
        say("nothing was changed")
        return 1
    apply(host, wanted, work)
    if is_due:
        say("written; it takes effect at the next boot, and vfio-hooks boot revert takes it back")
    elif by_hand:
        say(f"noted in {FILE}; vfio-hooks boot revert tells what to take back")
    return 0


def _by_hand(host: Host, had: Work, work: Work) -> tuple[str, ...]:
    """What a user has to do for `work`, after what takes back the work from before."""
    if work.told != had.told:
        return (*(had.told_back if had.told_back != work.told_back else ()), *work.told)
    is_written = any(edit.path != MODPROBE for edit in work.edits)
    running = (host.maybe("/proc/cmdline") or "").split()
    return () if is_written or {*work.parameters} <= {*running} else work.told


def _wanted(arguments: argparse.Namespace, host: Host) -> Wanted:
    """What the VM of the command line needs, or the host without one."""
    domain = None
    if arguments.xml is not None:
        domain = from_file(arguments.xml, arguments.vm).domain
    elif arguments.vm is not None:
        domain = defined(arguments.vm, host, arguments.connect).domain
    found = (*needs(host, domain), *(Need(word, ADDED) for word in arguments.add))
    if domain is None:
        return Wanted("", found)
    return Wanted(domain.name, found, tuple(one.address for one in domain.pci))


def _names(wanted: tuple[Wanted, ...]) -> str:
    return clean(", ".join(one.vm or "the host" for one in wanted))


def _tell(
    found: list[Need],
    loader: str,
    by_hand: tuple[str, ...],
    edits: tuple[Edit, ...],
    commands: tuple[tuple[str, ...], ...],
) -> None:
    for need in found:
        place = f"{MODPROBE}: " if need.is_modprobe else ""
        say(f"{place}{paint(clean(need.text), 'bold')}: {clean(need.why)}")
    _show(edits)
    for command in commands:
        say(f"then: {clean(joined(command))}")
    for line in by_hand:
        say(f"{loader}: this you have to do yourself: {clean(line)}")


def _show(edits: tuple[Edit, ...]) -> None:
    for edit in edits:
        before = (edit.before or "").splitlines()
        lines = difflib.unified_diff(
            before,
            (edit.after or "").splitlines(),
            edit.path if edit.before is not None else "/dev/null",
            edit.path,
            lineterm="",
            n=1,
        )
        for line in lines:
            say(paint(clean(line.replace("\t", "    ")), CHANGES.get(line[0], "bold")))


def _revert(host: WritableHost, arguments: argparse.Namespace) -> int:
    had = applied(host)
    left = tuple(one for one in had.wanted if one.vm != arguments.vm)
    if arguments.vm is not None and had.wanted and left == had.wanted:
        raise HookError(
            f"nothing is written for {arguments.vm}", f"what is written is for {_names(had.wanted)}"
        )
    if arguments.vm is not None and left:
        return _change(host, arguments, left, together(left))
    edited = revert(host)
    for path in edited:
        say(f"{clean(path)} was edited since, and stays as it is: remove what you do not want")
    for line in had.work.told_back:
        say(f"{had.work.loader}: this you have to do yourself: {clean(line)}")
    rest = "everything else" if edited or had.work.told_back else "everything"
    say(f"{rest} is as it was before; it takes effect at the next boot")
    return int(bool(edited))
