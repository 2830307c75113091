"""Keeps the host off the CPUs of vCPUs that are plugged in, or pinned anew, while a VM runs.

libvirt calls no hook for that. So this is a separate program, which systemd runs beside the VM
(unit vfio-hooks-vcpus-UUID). It looks every second, and ends with QEMU's process. What the VM has
taken from the host is undone as a whole when the VM stops.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.journal import State
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.host import Host, WritableHost, running
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.log import SystemdJournal
from vfio_hooks.record import replace
from vfio_hooks.services import has_ended, open_process
from vfio_hooks.sharing import Only, Override, Subtract
from vfio_hooks.steps import Step

SECONDS = 1.0
"""Seconds between two looks."""
_REST = 60
"""How many looks are skipped after one that failed, so that a full disk is not reported each
second."""


class Vcpus:
    """The CPUs of a VM whose QEMU is the process `pid`; `known` are those that it began with."""

    def __init__(self, engine: Engine, uuid: str, vm: str, pid: int, known: CpuSet) -> None:
        self.engine = engine
        self.uuid = uuid
        self.vm = vm
        self.pid = pid
        self._plugged = running.vcpu_pins(engine.host, pid).keys()
        self._rest = 0
        self.known = known

    def look(self) -> None:
        """Take the CPUs from the host that the VM's vCPUs have by now."""
        if self._rest:
            self._rest -= 1
            return
        pins = running.vcpu_pins(self.engine.host, self.pid)
        every = online(self.engine.host)
        # A pin to every CPU does not count.
        pins = {number: cpus for number, cpus in pins.items() if not cpus >= every}
        cpus = self.known.union(*pins.values())
        if cpus == self.known and pins.keys() <= self._plugged:
            # If a vCPU with this number is plugged in again later, it has a new group.
            self._plugged = pins.keys()
            return
        domain = Domain(self.vm, self.uuid, vcpu_pins=pins)

        def planner(given: Given) -> list[Step]:
            journal = given.ledger.journals.get(self.uuid)
            claims = journal.live() if journal else []
            held = [claim.step for claim in claims if claim.state is State.HELD]
            return [*wider(held, cpus), *partitions(held, domain, given.host)]

        try:
            self.engine.perform("started", self.uuid, self.vm, planner)
        except Interrupted:
            raise
        except HookError as error:
            self._rest = _REST
            print(error, flush=True)
        else:
            self.known = cpus
            self._plugged = pins.keys()


def wider(held: Sequence[Step], cpus: CpuSet) -> Iterator[Step]:
    """The steps that the VM has already, but for these CPUs as well."""
    for step in {step.key: step for step in held}.values():
        if not isinstance(step.share, Subtract | Only):
            continue
        now = parse_list(step.share.cpus)
        if not cpus <= now:
            share = replace(step.share, cpus=format_list(now | cpus))
            yield replace(step, share=share, required=False)


def partitions(held: Sequence[Step], domain: Domain, host: Host) -> Iterator[Step]:
    """The partitions of vCPUs that have none yet, if the VM's other vCPUs have some. A vCPU that
    was unplugged and plugged in again has a new group, which begins without a partition."""
    kinds = [step.share for step in held if isinstance(step.knob, Partition)]
    if not kinds or not isinstance(kinds[0], Override):
        return
    from vfio_hooks.plugins.cpus.partition import steps

    there = {(step.key, step.share) for step in held}
    for step in steps(kinds[0].value, domain, host):
        is_new = step.knob.read(host) in step.knob.resets(host)
        if is_new or (step.key, step.share) not in there:
            yield replace(step, required=False)


def follow(look: Callable[[], None], ended: Callable[[float], bool]) -> None:
    """Look again and again until the VM has ended."""
    while not ended(SECONDS):
        look()


def beside_vm(
    program: str, about: str | None, argv: Sequence[str] | None
) -> tuple[Vcpus, Callable[[float], bool]] | None:
    """The running VM that the command line of such a program names, and a function that waits for
    at most so many seconds and says whether the VM has ended; None if it has ended already."""
    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("uuid", help="the VM's")
    parser.add_argument("pidfile", help="where libvirt keeps the number of QEMU's process")
    parser.add_argument("cpus", type=parse_list, help="those that it begins with, a CPU list")
    arguments = parser.parse_args(argv)
    process = open_process(arguments.pidfile)
    if process is None:
        return None
    vm, host = Path(arguments.pidfile).stem, WritableHost()
    engine = Engine(host, StateFolder(), SystemdJournal(event="started", event_of=vm))
    pid = int(host.read(arguments.pidfile))
    return Vcpus(engine, arguments.uuid, vm, pid, arguments.cpus), partial(has_ended, process)


def main(argv: Sequence[str] | None = None) -> int:
    """vcpus UUID PIDFILE CPUS"""
    # An Interrupted is the end that systemd asked for.
    with suppress(Interrupted, FileNotFoundError):
        if found := beside_vm("vcpus", __doc__, argv):
            vcpus, ended = found
            follow(vcpus.look, ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
