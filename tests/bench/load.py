"""What comes to a VM's CPUs while the host is busy: `python3 -m tests.bench.load [RELEASE]`.

It boots the emulated host, starts a VM that is pinned to CPUs 4 and 5, and loads all CPUs with
programs and with interrupts that were sent to these two. For ten seconds each it prints what
`vfio-hooks verify` sees there: before the VM is started, with the hook's work, and after that was
undone, with the VM still running.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass

from tests.vm import saved
from tests.vm.direct import HOOKS
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import SOURCE_SHARE

VM = Domain("quiet", vcpus=2, pins={0: "4", 1: "5"}, emulator_pin="0-1")
TOML = "[cpus]\n[irqs]\n"
# Little enough for the VM to be ended in a host that is emulated itself, and in slices of 20 ms:
# stress-ng's own may last for seconds there, and the pauses between them for longer than a window.
STRESS = "stress-ng --quiet --cpu-method bitops --cpu-load 25 --cpu-load-slice 20 --cpu"
# On all CPUs; and two of the programs insist on the VM's, where they may: the scheduler might
# leave these to the vCPUs. Reading the share makes interrupts that, unlike those of drives, may
# go to any CPU.
LOAD = (
    f"systemd-run --quiet --collect --unit=load sh -c '{STRESS} 8 &"
    f" taskset --cpu-list 4,5 {STRESS} 2 &"
    " while :; do find /src/vfio_hooks -type f -exec cat {} + > /dev/null; done'"
)
LOADED = '[ "$(pgrep --count stress-ng-cpu)" -ge {} ]'
# What verify looks at, as long as there is no VM.
IDLE = """\
import json, sys
sys.path.insert(0, "/src")
from vfio_hooks.record import asdict
from vfio_hooks.host import Host
from vfio_hooks.verify import disturbances
from vfio_hooks.verify.window import watch
host = Host()
seen = watch(host, 0, frozenset({4, 5}), float(sys.argv[1]))
print(json.dumps({"verdicts": [asdict(one) for one in disturbances(host, seen)]}))
"""
LINES = f"/sys/bus/pci/devices/{SOURCE_SHARE}/msi_irqs"
TURN = f"for n in $(ls {LINES}); do echo {{}} > /proc/irq/$n/smp_affinity_list; done"


@dataclass(frozen=True)
class Seen:
    """The lines that `verify` has about tasks and interrupts, and about all else; each begins
    with "ok", "note" or "wrong"."""

    disturbances: tuple[str, ...]
    rest: tuple[str, ...]


def measure(guest: Guest, seconds: float, toml: str = TOML) -> tuple[Seen, Seen, Seen]:
    """What comes to the VM's CPUs before vfio-hooks' work, with it, and after it."""
    guest.put(f"{HOOKS}/qemu.d/{VM.name}/vm.toml", toml)
    guest.define(VM)
    guest.run(TURN.format("4-5"))
    try:
        load(guest, 10)
        before = look(guest, seconds, f"python3 -B - {seconds:g}", IDLE)
        # The VM would start, too, but take its time.
        guest.run("systemctl stop load")
        guest.start(VM.name)
        load(guest, 8)
        verify = f"vfio-hooks verify {VM.name} --seconds {seconds:g} --json"
        during = look(guest, seconds, verify)
        # The VM goes on, and the host has all CPUs again.
        guest.run("systemctl stop load")
        guest.run(f"vfio-hooks undo --force {VM.name}")
        load(guest, 10)
        return before, during, look(guest, seconds, verify)
    finally:
        guest.run("systemctl stop load", check=False)
        guest.remove(VM.name)
        guest.run(TURN.format("0-7"))
        guest.run(f"rm -r {HOOKS}/qemu.d/{VM.name}")


def load(guest: Guest, programs: int) -> None:
    """Load all CPUs; it takes that many programs seconds to begin."""
    guest.run(LOAD)
    guest.wait(LOADED.format(programs))


def look(guest: Guest, seconds: float, line: str, program: str | None = None) -> Seen:
    """The verdicts of one window."""
    told = guest.run(line, check=False, timeout=seconds + 120, input=program).stdout
    verdicts = json.loads(told)["verdicts"]
    lines = [f"{one['level']}: {one['subject']}: {one['text']}" for one in verdicts]
    about = tuple(line for line in lines if " on CPUs 4-5" in line)
    return Seen(about, tuple(line for line in lines if line not in about))


def main(suite: str = "trixie") -> None:
    running = saved.resume(suite, f"load-{os.getpid()}-{suite}")
    try:
        guest = Guest(running)
        for title, seen in zip(("before", "with", "after"), measure(guest, 10), strict=True):
            print(f"\n{title} vfio-hooks' work, all CPUs loaded, 10 s ({suite})")
            for line in seen.disturbances:
                print(f"  {line}")
    finally:
        running.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
