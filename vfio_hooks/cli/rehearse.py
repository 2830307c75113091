"""`vfio-hooks rehearse`: start and end a clone of a VM, and see whether the host comes back."""

import argparse
import os
from pathlib import Path

from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root
from vfio_hooks.cli.domains import defined
from vfio_hooks.cli.likeness import run as in_likeness
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import clean, complain, say
from vfio_hooks.cli.xml import SYSTEM
from vfio_hooks.commands import run as command
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.network import is_vf_pool
from vfio_hooks.paths import Paths
from vfio_hooks.rehearse import RESCUE, SERVICE, before
from vfio_hooks.rehearse.clone import Clone, clone
from vfio_hooks.rehearse.report import EQUAL, FOLDER, new_path
from vfio_hooks.rehearse.service import launch
from vfio_hooks.wait import until

_EMULATED = "rehearse in an emulated host, with --this-host --xml FILE"
_ROUNDS = 5
_MOST = 1000
_EPILOG = f"""\
In each round, a clone of VM with the name VM-rehearsal is started and ended. It has the passed
devices, the CPUs, the memory and the vm.toml of VM, but no disk, no network and no firmware. Its
CPUs stay paused, so nothing boots and no data can be lost. The host is compared before and after
each round: drivers, CPUs of programs and interrupts, governors, hugepages, virtual functions,
sysctls, units and monitors. What changes by itself on this host is found out first, and ignored.

If the desktop ends, and this command with it, the rehearsal goes on, because a systemd service
runs it. If that service is killed, a timer ends the clone within ten seconds, undoes everything
and starts the display manager again. The report is in {FOLDER}. Each
line is on the disk before the step that it announces. The last lines are the verdict: "equal", or
what differs, and since which event.

If the host itself crashes, the link /etc/libvirt/hooks/qemu.d/VM-rehearsal may be left. The next
rehearsal replaces it, and you can remove it.

With --host, nothing of this host is touched. An emulated machine is made that is like the host in a
snapshot: the same sockets, NUMA nodes, cores and SMT siblings (16 CPUs at most), and the same IOMMU
groups, with emulated cards of the same classes. The VM, its folder in qemu.d and the state of the
host's drivers are put there, and the rehearsal runs there. All the while, other programs open the
cards, ask devices for their state and trigger udev, as those of a desktop do. What is wrong at
first sight, which addresses differ and what cannot be imitated is told first. If the VM cannot
start on the host itself because its IOMMU is off, the verdict says so. A snapshot has no
vm.toml: --config-dir names the folder with vfio-hooks.toml and qemu.d. The emulated machine is made
of Debian packages, so this needs apt-get. The first time takes some minutes and 1 GB in
~/.cache/vfio-hooks; what is missing is installed by apt-get: mmdebstrap, on Ubuntu also Debian's
keys (debian-archive-keyring), and others.

examples:
  sudo vfio-hooks rehearse win11
  sudo vfio-hooks rehearse win11 --rounds 1 --yes
  sudo vfio-hooks rehearse --this-host win11
  sudo vfio-hooks rehearse --this-host --xml new.xml
  sudo vfio-hooks rehearse --host host.tar.xz win11.xml --config-dir hooks
  sudo sh -c 'tail -n 20 {FOLDER}/*.txt'
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "rehearse",
        run,
        line="start and end a clone of a VM: does the host come back?",
        description="Start and end a clone of a VM, without its disks, several times, and compare\n"
        "the host before and after.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID; with --host also a file")
    parser.add_argument("--xml", metavar=FILE, help="with --host or --this-host: the domain's XML")
    parser.add_argument(
        "--rounds",
        type=_rounds,
        metavar="N",
        help=f"how often (default: {_ROUNDS}; 1 where a graphics card cannot be reset)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--host", metavar=FILE, help="rehearse in an emulated likeness of the host in a snapshot"
    )
    where.add_argument(
        "--this-host", action="store_true", help="rehearse in an emulated likeness of this host"
    )
    add_paths(parser, "config-dir")


def run(arguments: argparse.Namespace) -> int:
    need_root("rehearse")
    if arguments.host or arguments.this_host:
        return in_likeness(arguments)
    if arguments.xml or arguments.config_dir:
        option = "--xml" if arguments.xml else "--config-dir"
        raise HookError(f"{option} is for --host and --this-host", "leave it out")
    if arguments.vm is None:
        raise HookError("which VM?", "give its name or UUID")
    here, host = Paths(), Host()
    asked = defined(arguments.vm, host, SYSTEM, instead=_EMULATED)
    domain = asked.domain
    config = before.permitted(domain, asked.running, here)
    made = clone(domain.name, asked.xml, lambda network: is_vf_pool(host, network))
    rounds = arguments.rounds or _ROUNDS
    for address in before.without_reset(host, domain):
        complain(f"{address} cannot be reset: its second start may fail until the host restarts")
        rounds = arguments.rounds or 1
    path = new_path(domain.name)
    say(clean(f"{made.name}, a clone of {domain.name}, will be started and ended {_times(rounds)}"))
    if made.lacks:
        say(clean(f"it lacks {', '.join(made.lacks)}"), 1)
    for line in before.goes_dark(host, domain, config):
        say(clean(line), 1)
    say(clean(f"the report: {path}"), 1)
    if not arguments.yes and not ask("begin?"):
        say("nothing was changed")
        return 1
    launch(domain.name, _saved(made, path), rounds, path)
    return _follow(host, path)


def _saved(made: Clone, report: str) -> str:
    """The clone's XML, beside the report."""
    path = Path(report).with_suffix(".xml")
    path.touch(0o600)
    path.write_bytes(made.xml)
    return str(path)


def _follow(host: Host, path: str) -> int:
    """Print the report as it grows, until nothing of the rehearsal runs; whether it was equal."""
    shown = 0

    def grows() -> bool:
        return os.path.exists(path) and os.path.getsize(path) > shown

    try:
        while True:
            ended = not any(before.is_active(host, unit) for unit in (SERVICE, RESCUE))
            if until(grows, 0 if ended else 2):
                text = Path(path).read_bytes()
                for line in text[shown:].decode(errors="replace").splitlines():
                    say(clean(line))
                shown = len(text)
            elif ended:
                break
    except KeyboardInterrupt:
        complain("ending this round, and then the rehearsal")
        command(["systemctl", "stop", "--", SERVICE], 1200)
        raise
    if not shown:
        raise HookError("the rehearsal ended at once", f"journalctl -u {SERVICE}")
    last = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-1]
    return int(not last.endswith(EQUAL))


def _times(rounds: int) -> str:
    return "once" if rounds == 1 else f"{rounds} times"


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds, 1 to {_MOST}")
    return int(text)
