"""verify --trace on a real kernel: what was planted on the VM's CPUs is found by name, and is gone
with [cpus] and [irqs]."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm.direct import HOOKS
from tests.vm.domains import Domain
from tests.vm.guest import Guest

pytestmark = pytest.mark.vm

VM = Domain("traced", vcpus=2, pins={0: "4", 1: "5"}, emulator_pin="0-1")
# It runs for 5 ms, and sets itself a timer; at first on the VM's CPUs, if it may.
PLANTED = """\
import os, time
with open("/proc/self/comm", "w") as file:
    file.write("planted")
os.sched_setaffinity(0, {4, 5})
while True:
    end = time.monotonic() + 0.005
    while time.monotonic() < end:
        pass
    time.sleep(0.02)
"""
QUIET = f"{VM.name}: verify: ok: vCPU 0: may use CPU 4,"
LINES = "$(awk -F: '/virtio.*input/ {print $1}' /proc/interrupts)"
# Each line that is printed is a packet, and its answer an interrupt.
TRACE = (
    f"vfio-hooks verify {VM.name} --trace --seconds 4 --json > /tmp/trace.json & "
    "while jobs %1 2> /dev/null | grep -q Running; do echo x; sleep 0.02; done; wait $!; "
    "sed -n p /tmp/trace.json"
)


def culprits(guest: Guest) -> list[dict[str, Any]]:
    printed = guest.run(f"bash -c {json.dumps(TRACE)}", timeout=300).stdout
    made = json.loads(printed[printed.index("{") :])
    assert made["lost"] == 0
    assert [one["cpu"] for one in made["cpus"]] == [4, 5]
    found: list[dict[str, Any]] = made["culprits"]
    return found


def names(found: list[dict[str, Any]]) -> set[str]:
    """Which of the planted ones are among the culprits."""
    return {
        word
        for one in found
        for kind, word in (("task", "planted"), ("irq", "input"), ("timer", "hrtimer_wakeup"))
        if one["kind"] == kind and word in one["name"]
    }


def test_what_was_planted_is_found_and_taken_away(hooked: Guest) -> None:
    folder = f"{HOOKS}/qemu.d/{VM.name}"
    hooked.put("/run/planted.py", PLANTED)
    hooked.define(VM)
    try:
        hooked.start(VM.name)
        hooked.run(f"for n in {LINES}; do echo 4 > /proc/irq/$n/smp_affinity_list; done")
        hooked.run(
            "systemd-run --quiet --collect --unit=planted --slice=planted.slice"
            " python3 /run/planted.py"
        )
        found = culprits(hooked)
        assert names(found) == {"planted", "input", "hrtimer_wakeup"}, found
        planted = next(one for one in found if "planted" in one["name"])
        assert planted["longest"] >= 4000 and planted["remedy"] == "[cpus]", planted
        hooked.destroy(VM.name)
        hooked.put(f"{folder}/vm.toml", "[cpus]\n[irqs]\n[verify]\nseconds = 1\n")
        hooked.start(VM.name)
        found = culprits(hooked)
        assert names(found) == set(), found
        hooked.wait(f"journalctl -qt vfio-hooks | grep -q '{QUIET}'")
        assert hooked.run("ls /sys/kernel/tracing/instances").stdout == ""
    finally:
        hooked.remove(VM.name)
        hooked.run("systemctl stop planted", check=False)
        hooked.run(f"for n in {LINES}; do echo 0-7 > /proc/irq/$n/smp_affinity_list; done")
        hooked.run(f"rm -rf {folder} /run/planted.py /tmp/trace.json")
