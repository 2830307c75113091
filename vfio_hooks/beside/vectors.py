"""Keeps the interrupts of a running VM's devices on the VM's CPUs.

A guest's driver asks for its interrupt vectors when it starts, and for new ones at every reset, so
they come long after libvirt's last hook. This is a program of its own, which systemd runs beside
the VM (unit vfio-hooks-vectors-UUID): it looks every second, and ends with QEMU's process.
"""

import argparse
import select
import sys
from collections.abc import Callable, Sequence

from vfio_hooks.beside import open_process
from vfio_hooks.errors import HookError
from vfio_hooks.host import WritableHost
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.host.irq import of_devices
from vfio_hooks.knobs.irq import IrqAffinity

SECONDS = 1.0
"""Between two looks."""

Ended = Callable[[float], bool]
"""Waits so many seconds at most, and says whether the VM has ended."""


def follow(host: WritableHost, addresses: Sequence[str], cpus: str, ended: Ended) -> None:
    """Move every vector of these functions to the CPUs until the VM has ended."""
    told: set[int] = set()
    while True:
        for number in sorted(of_devices(host, addresses)):
            vector = IrqAffinity(number)
            try:
                if (now := vector.read(host)) != cpus:
                    vector.write(host, cpus)
                    print(f"IRQ {number}: {now} → {cpus}", flush=True)
            except HookError as error:
                # Said once: a vector that vanishes while it is looked at, or one that stays.
                if number not in told:
                    print(error, flush=True)
                told.add(number)
        if ended(SECONDS):
            return


def main(argv: Sequence[str] | None = None) -> int:
    """vectors PIDFILE CPUS ADDRESS..."""
    parser = argparse.ArgumentParser(prog="vectors", description=__doc__)
    parser.add_argument("pidfile", help="where libvirt keeps the number of QEMU's process")
    parser.add_argument("cpus", type=parse_list, help="a CPU list")
    parser.add_argument("address", nargs="+", help="a PCI function, as in 0000:04:00.0")
    arguments = parser.parse_args(argv)
    process = open_process(arguments.pidfile)
    if process is None:
        return 0  # The VM has ended already.

    def ended(seconds: float) -> bool:
        return bool(select.select([process], [], [], seconds)[0])

    follow(WritableHost(), arguments.address, format_list(arguments.cpus), ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
