"""How quiet a VM's CPUs are without and with vfio-hooks: `python3 -m tests.bench.quiet [RELEASE]`.

It boots the emulated host, loads it as `load` does, and prints two measurements of `vfio-hooks
verify --trace` side by side: of a VM on CPUs 4 and 5 that vfio-hooks does not know, and of the same
VM with [cpus] and [irqs].
"""

from __future__ import annotations

import os
import sys

from tests.bench.load import TOML, TURN, VM, load
from tests.vm import saved
from tests.vm.direct import HOOKS
from tests.vm.guest import Guest

TRACE = f"vfio-hooks verify {VM.name} --trace --seconds {{}} --json > {{}}"


def measure(guest: Guest, seconds: int) -> str:
    """The table of both."""
    guest.define(VM)
    guest.run(TURN.format("4-5"))
    for file, toml, programs in (("without", "", 10), ("with", TOML, 8)):
        if toml:
            guest.put(f"{HOOKS}/qemu.d/{VM.name}/vm.toml", toml)
        guest.start(VM.name)
        load(guest, programs)
        guest.run(TRACE.format(seconds, file), timeout=seconds + 180)
        guest.run("systemctl stop load")
        guest.destroy(VM.name)
    return guest.run("vfio-hooks verify --compare without with").stdout


def main(suite: str = "trixie") -> None:
    running = saved.resume(suite, f"quiet-{os.getpid()}-{suite}")
    try:
        print(measure(Guest(running), 10), end="")
    finally:
        running.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
