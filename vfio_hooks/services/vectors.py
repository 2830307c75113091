"""Keeps interrupts where they belong for as long as a VM runs.

A guest's driver asks for its interrupt vectors when it starts, and for new ones at every reset, so
they come long after libvirt's last hook. So do functions and vCPUs that are plugged in later. And
an irqbalance that is restarted, as when its package is upgraded, does not know about the VM. So
this is a separate program, which systemd runs beside the VM (unit vfio-hooks-vectors-UUID). It
looks every second, and ends with QEMU's process.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

from vfio_hooks.engine import Engine, Given, Planner
from vfio_hooks.engine.journal import State
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.host import WritableHost, irq
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.host.running import functions
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.irqbalance import IrqBalance
from vfio_hooks.record import replace
from vfio_hooks.services import Ended
from vfio_hooks.services.vcpus import beside_vm
from vfio_hooks.sharing import Only
from vfio_hooks.steps import Step

SECONDS = 1.0
"""Seconds between two looks."""

Tell = Callable[[str], None]
"""Takes the control socket of an irqbalance that was not there at the last look."""
Keep = Callable[[int], None]
"""Takes a line interrupt of the VM's devices, which still exists when the VM has ended."""
Plugged = Callable[[], Collection[str]]
"""The addresses of the PCI functions that the VM has now."""
Where = Callable[[], str]
"""A list of the VM's CPUs that the host keeps off now."""
Look = Callable[[], None]
"""Keeps the host off the CPUs that the VM has got since."""


def follow(
    host: WritableHost,
    plugged: Plugged,
    where: Where,
    ended: Ended,
    tell: Tell,
    keep: Keep,
    look: Look,
) -> None:
    """Until the VM has ended: move every vector of its functions to its CPUs."""
    told: set[int] = set()
    kept: set[int] = set()
    balancer = None
    while True:
        addresses = plugged()
        lines = irq.lines(host, addresses) - kept
        # A line is moved by `keep`, which first notes where it was.
        _move(host, irq.of_devices(host, addresses) - lines, where(), told)
        # The rest waits for the engine's lock, which the start of another VM may hold for long.
        look()
        for line in sorted(lines):
            kept.add(line)
            keep(line)
        if (socket := irq.balancer(host)) and socket != balancer:
            balancer = socket
            tell(socket)
        if ended(SECONDS):
            return


def _move(host: WritableHost, numbers: Collection[int], cpus: str, told: set[int]) -> None:
    for number in sorted(numbers):
        vector = IrqAffinity(number)
        try:
            if (now := vector.read(host)) != cpus:
                vector.write(host, cpus)
                print(f"IRQ {number}: {now} → {cpus}", flush=True)
        except HookError as error:
            # Said once only: a vector that vanishes meanwhile, or one that stays where it is.
            if number not in told:
                print(error, flush=True)
            told.add(number)


def keep_line(engine: Engine, uuid: str, vm: str, cpus: str, line: int) -> None:
    """Move a line interrupt of the VM's devices to the VM's CPUs, until the VM stops."""
    step = Step("irqs", IrqAffinity(line), Only(cpus), "stopped", required=False)

    def planner(given: Given) -> list[Step]:
        # A VM that has ended has no claims any more, and nobody would undo this one.
        journal = given.ledger.journals.get(uuid)
        claims = given.ledger.on(step.key)
        is_there = any(isinstance(c.step.share, Only) for c in claims if c.uuid == uuid)
        return [step] if journal and journal.live() and not is_there else []

    _perform(engine, uuid, vm, planner)


def keep_off(engine: Engine, uuid: str, vm: str, socket: str) -> None:
    """Make a new irqbalance keep off the same CPUs as the one at the VM's start. Undone with
    that."""

    def planner(given: Given) -> list[Step]:
        # A VM that has ended has no claims any more, and nobody would undo this one.
        claims = given.ledger.journals[uuid].live()
        held = [claim.step for claim in claims if claim.state is State.HELD]
        told = {step.key: step for step in held if isinstance(step.knob, IrqBalance)}
        again = [replace(step, knob=IrqBalance(socket)) for step in told.values()]
        return [] if socket in told else again[:1]

    _perform(engine, uuid, vm, planner)


def _perform(engine: Engine, uuid: str, vm: str, planner: Planner) -> None:
    try:
        engine.perform("started", uuid, vm, planner)
    except Interrupted:
        raise
    except HookError as error:
        print(error, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """vectors UUID PIDFILE CPUS"""
    # An Interrupted is the end that systemd asked for.
    with suppress(Interrupted, FileNotFoundError):
        if found := beside_vm("vectors", __doc__, argv):
            vcpus, ended = found
            engine, uuid, vm = vcpus.engine, vcpus.uuid, vcpus.vm

            def where() -> str:
                return format_list(vcpus.known)

            def keep(line: int) -> None:
                keep_line(engine, uuid, vm, where(), line)

            plugged = partial(functions, engine.host, vcpus.pid)
            tell = partial(keep_off, engine, uuid, vm)
            follow(engine.host, plugged, where, ended, tell, keep, vcpus.look)
    return 0


if __name__ == "__main__":
    sys.exit(main())
