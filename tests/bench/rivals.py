"""The same work by others, side by side: `python3 -m tests.bench.rivals [RELEASE]`.

Host tasks off CPUs 4 and 5, interrupts off them, the governor performance; then the undo. By
vfio-hooks, by vfio-isolate 0.5.2 (which pip fetches) and by the guide's own lines in a shell, each
in an emulated host of its own, since what one leaves would be another's beginning. It prints the
wall time of both halves as a ratio to the shell lines, and what each left different on the host
after its undo.
"""

from __future__ import annotations

import io
import os
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
from base64 import b64encode
from dataclasses import dataclass, field

from tests.vm import saved
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.process import VmError
from vfio_hooks.rehearse.compared import difference

VERSION = "vfio-isolate==0.5.2"
FOLDER = "/tmp/vfio-isolate"
VM = Domain("vm", vcpus=2, pins={0: "4", 1: "5"})
TOML = "[cpus]\n[irqs]\n[governor]\n"
TURNS = 5
ISOLATE = f"PYTHONPATH={FOLDER} python3 -c 'from vfio_isolate import run_cli; run_cli()'"
# vfio-isolate has no way to switch the cpuset controller on that works here, so that is done.
CONTROLLER = "echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control"
POLICIES = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
GOVERNORS = f"for g in {POLICIES}; do echo {{}} > $g; done"
# The clock is the guest's: the way there is not part of it.
TIMED = "began=$EPOCHREALTIME; ({}) > /dev/null; code=$?; echo $began $EPOCHREALTIME; exit $code"


@dataclass
class Rival:
    """Two shell lines, what they took (s), and what was different after both."""

    name: str
    do: str
    undo: str
    seconds: list[float] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def rivals() -> list[Rival]:
    hook = f"{HOOKS}/qemu {VM.name} {{}} - < /tmp/direct/{VM.name}.xml"
    return [
        Rival(
            "the guide's lines, by hand",
            f"{CONTROLLER}; for u in init.scope system.slice user.slice; do"
            " systemctl set-property --runtime $u AllowedCPUs=0-3,6-7; done;"
            " for i in /proc/irq/[0-9]*; do echo cf > $i/smp_affinity; done 2> /dev/null; "
            + GOVERNORS.format("performance"),
            "for u in init.scope system.slice user.slice; do"
            " systemctl set-property --runtime $u AllowedCPUs=; done;"
            " for i in /proc/irq/[0-9]*; do echo ff > $i/smp_affinity; done 2> /dev/null; "
            + GOVERNORS.format("ondemand"),
        ),
        Rival(
            "vfio-isolate 0.5.2",
            f"{CONTROLLER}; {ISOLATE} -u /tmp/undo cpuset-modify --cpus C0-3,6-7 /system.slice"
            " cpuset-modify --cpus C0-3,6-7 /user.slice"
            " irq-affinity mask C4-5 cpu-governor performance C0-7",
            f"{ISOLATE} restore /tmp/undo",
        ),
        Rival("vfio-hooks", hook.format("prepare begin"), hook.format("release end")),
    ]


def fetched() -> bytes:
    """vfio-isolate's files, which the guest has no network to get."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*pip, VERSION], check=True)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(f"{folder}/vfio_isolate", "vfio_isolate")
        return packed.getvalue()


def measure(guest: Guest, rival: Rival) -> None:
    """Do and undo in turns; what is left is told of the first one."""
    before = guest.snapshot()
    # Once unmeasured: what is loaded for the first time takes longer.
    _turn(guest, rival)
    rival.left = difference(before, guest.snapshot())
    rival.seconds = [_turn(guest, rival) for _ in range(TURNS)]


def _turn(guest: Guest, rival: Rival) -> float:
    spent = 0.0
    for line in (rival.do, rival.undo):
        done = guest.run(f"bash -c {shlex.quote(TIMED.format(line))}", check=False)
        began, ended = map(float, done.stdout.split()[-2:])
        spent += ended - began
        if done.returncode:
            rival.failures.append((done.stderr.strip().splitlines() or ["it failed"])[-1])
    return spent


def show(compared: list[Rival]) -> None:
    """The table, and what each left."""
    print(f"\n{'':28}{'median s':>10}{'ratio':>8}{'left different':>16}")
    first = statistics.median(compared[0].seconds)
    for rival in compared:
        median = statistics.median(rival.seconds)
        print(f"{rival.name:28}{median:>10.2f}{median / first:>8.2f}{len(rival.left):>16}")
    for rival in compared:
        for line in [*dict.fromkeys(rival.failures)][:3]:
            print(f"\n{rival.name} failed: {line}")
        if rival.left:
            print(f"\n{rival.name} left:")
            print("\n".join(f"  {line}" for line in rival.left[:12]))


def main(suite: str = "trixie") -> None:
    packed, compared = b64encode(fetched()).decode(), rivals()
    unpack = f"mkdir -p {FOLDER} && base64 --decode | tar --extract --gzip --directory {FOLDER}"
    try:
        for rival in compared:
            running = saved.resume(suite, f"rivals-{os.getpid()}-{suite}")
            try:
                guest = Guest(running)
                guest.run(unpack, input=packed)
                Direct(guest).manage(VM, TOML)
                measure(guest, rival)
            finally:
                running.stop()
    except VmError as error:
        sys.exit(f"rivals: {error}")
    show(compared)


if __name__ == "__main__":
    main(*sys.argv[1:])
