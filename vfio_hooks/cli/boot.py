"""`vfio-hooks boot`: what a host needs from its boot on, written and taken back."""

import argparse
import difflib

from vfio_hooks.boot import Edit, Work, text_of
from vfio_hooks.boot.initramfs import rebuild
from vfio_hooks.boot.journal import FILE, apply, is_applied, revert
from vfio_hooks.boot.loaders import LOADERS
from vfio_hooks.boot.needs import MODPROBE, Need, needs
from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.domains import defined, from_file
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import Style, clean, paint, say
from vfio_hooks.cli.xml import SYSTEM
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.quoting import joined

_COLORS: dict[str, Style] = {"+": "green", "-": "red", "@": "dim"}
_EPILOG = f"""\
All else that vfio-hooks changes is undone when the VM ends, and gone with a reboot. This is not: it
edits files of the boot loader and of modprobe, and has the loader's tools, and those of the
initramfs, look at them. It takes effect with the next boot. GRUB as Debian has it, systemd-boot and
kernel-install are written; for other loaders the command or the edit is printed.

Where the loader has entries, one with today's parameters is added, "As before vfio-hooks boot".
What was written is in {FILE} until revert. A file that you have
edited since is left as it is.

examples:
  vfio-hooks boot show win11
  sudo vfio-hooks boot apply win11
  sudo vfio-hooks boot apply win11 --add default_hugepagesz=1G
  sudo vfio-hooks boot revert
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "boot",
        run,
        line="write what has to be there at boot into the loader's files, or take it back",
        description="Show what this host has to be booted with for its VMs, write it, or take it "
        "back.",
        epilog=_EPILOG,
    )
    parser.add_argument("what", choices=("show", "apply", "revert"), help="what to do")
    parser.add_argument("vm", metavar="VM", nargs="?", help="for this VM, too")
    parser.add_argument(
        "--add", metavar="WORD", action="append", default=[], help="a kernel parameter besides"
    )
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--xml", metavar="FILE", help='the domain\'s XML; "-": standard input')
    parser.add_argument(
        "--connect", metavar="URI", default=SYSTEM, help="the libvirt to ask (default: %(default)s)"
    )
    add_paths(parser, "root")


def run(arguments: argparse.Namespace) -> int:
    host = paths(arguments).host()
    if arguments.what != "show" and host.is_this_machine:
        need_root(f"boot {arguments.what}")
    if arguments.what == "revert":
        return _revert(host)
    if is_applied(host):
        say(f"the boot is changed already, see {FILE}; to begin anew: vfio-hooks boot revert")
        return int(arguments.what == "apply")
    wanted = [*_needs(arguments, host), *(Need(word, "--add") for word in arguments.add)]
    if not wanted:
        say("nothing is needed at boot that is not there already")
        return 0
    for need in wanted:
        place = f"{MODPROBE}: " if need.is_modprobe else ""
        say(f"{place}{paint(clean(need.text), 'bold')}: {clean(need.why)}")
    work = planned(host, wanted)
    _show(work)
    if arguments.what == "show" or not (work.edits or work.commands):
        return 0
    if not arguments.yes and not ask("write this?"):
        say("nothing was changed")
        return 1
    apply(host, work)
    say("written; it takes effect with the next boot, and vfio-hooks boot revert takes it back")
    return 0


def _needs(arguments: argparse.Namespace, host: Host) -> list[Need]:
    if arguments.xml is not None:
        return needs(host, from_file(arguments.xml, arguments.vm).domain)
    if arguments.vm is not None:
        return needs(host, defined(arguments.vm, host, arguments.connect).domain)
    return needs(host, None)


def planned(host: Host, wanted: list[Need]) -> Work:
    """The files of the loader and of modprobe. Raises HookError for an unknown loader."""
    words = [need.text for need in wanted if not need.is_modprobe]
    lines = [need.text for need in wanted if need.is_modprobe]
    loader = next((one for one in LOADERS if one.is_used(host)), None)
    if loader is None and words:
        raise HookError(
            "the boot loader is none that is known",
            f"give the kernel these parameters yourself: {' '.join(words)}",
        )
    work = loader.work(host, words) if loader and words else Work(loader.name if loader else "")
    edits, commands, told = work.edits, work.commands, work.told
    if lines:
        head = "# By vfio-hooks boot; vfio-hooks boot revert takes it away."
        text = "\n".join((head, *lines)) + "\n"
        command, said = rebuild(host)
        edits += (Edit(MODPROBE, text_of(host, MODPROBE), text),)
        commands, told = (*commands, *command), (*told, *said)
    return Work(work.loader, edits, commands, told, tuple(words))


def _show(work: Work) -> None:
    for edit in work.edits:
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
            say(paint(clean(line.replace("\t", "    ")), _COLORS.get(line[0], "bold")))
    for command in work.commands:
        say(f"then: {clean(joined(command))}")
    for line in work.told:
        say(f"{work.loader}: this you have to do yourself: {clean(line)}")


def _revert(host: WritableHost) -> int:
    edited = revert(host)
    for path in edited:
        say(f"{clean(path)} was edited since, and stays as it is: take out what you do not want")
    say("the boot is as it was before; it takes effect with the next one")
    return int(bool(edited))
