"""The guide's whole day on a host shaped like its own: the example that ships, for real.

What differs from the guide's host is put in: the names of the card with VFs and of the output, and
a helper in place of Barrier, on the desktop of an Xorg without hardware. The time that the events
took is printed beside the time that the guide's scripts sleep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import effort
from tests.guide import PAUSES
from tests.vm.desktop import Desktop
from tests.vm.direct import HOOKS
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP, SRIOV_PF
from tests.vm.release import USER

NAME = "VFIO-NoHide"
EXAMPLE = Path(__file__).resolve().parents[2] / "hooks/qemu.d" / NAME / "vm.toml"
VF = "0000:08:10.2"  # number 1 of igb's
# Tells who it is, with which arguments, and how many monitors it finds.
BARRIER = """\
#!/bin/bash
exec > /tmp/barrier
id --user --name
echo "$@"
xrandr | grep --count ' connected'
exec sleep inf
"""
LOOK = f"""\
cat /sys/devices/system/cpu/cpufreq/policy?/scaling_governor | paste -sd' '
cat /sys/fs/cgroup/system.slice/cpuset.cpus.effective
cat /proc/irq/default_smp_affinity
cat /sys/devices/system/node/node?/hugepages/hugepages-2048kB/nr_hugepages | paste -sd' '
ip link show dev "$(ls /sys/bus/pci/devices/{SRIOV_PF}/net)" | grep --only-matching 'vlan [0-9]*'
for one in {" ".join(GPU_GROUP)} {VF}; do
    basename "$(readlink /sys/bus/pci/devices/$one/driver)"
done | sort | uniq --count | xargs
cat /tmp/barrier
"""


@pytest.fixture
def desktop(hooked: Guest) -> Iterator[Desktop]:
    started = Desktop(hooked)
    try:
        started.start_x11()
        started.x("xrandr --addmode DUMMY1 1024x768")
        started.x(
            "xrandr --output DUMMY0 --mode 1024x768 --pos 0x0 --primary"
            " --output DUMMY1 --mode 1024x768 --pos 1024x0"
        )
        yield started
    finally:
        started.stop()


@pytest.fixture
def guide_vm(hooked: Guest) -> Iterator[Domain]:
    domain = Domain(
        NAME,
        tuple(map(HostDevice, (*GPU_GROUP, VF))),
        memory=256,
        vcpus=4,
        pins={0: "4", 1: "5", 2: "6", 3: "7"},
        emulator_pin="2",
        iothread_pins={1: "1", 2: "3"},
        hugepages=2048,
    )
    hooked.put("/usr/local/bin/barrier", BARRIER, "0755")
    card = hooked.run(f"ls /sys/bus/pci/devices/{SRIOV_PF}/net").stdout.strip()
    toml = EXAMPLE.read_text().replace("enp7s0f1", card).replace("HDMI-A-0", "DUMMY1")
    hooked.put(f"{HOOKS}/qemu.d/{NAME}/vm.toml", toml)
    hooked.define(domain)
    yield domain
    hooked.remove(NAME)
    hooked.run(f"rm -rf /tmp/barrier /usr/local/bin/barrier {HOOKS}/qemu.d/{NAME}")


def primary(desktop: Desktop) -> str:
    (name,) = (line.split()[0] for line in desktop.x("xrandr").splitlines() if " primary" in line)
    return name


@pytest.mark.every_release
def test_the_whole_day(hooked: Guest, desktop: Desktop, guide_vm: Domain) -> None:
    governors = hooked.run(LOOK.partition("\n")[0]).stdout.split()
    hooked.start(NAME)
    hooked.wait("grep --quiet '^[0-9]' /tmp/barrier")
    assert primary(desktop) == "DUMMY1"
    assert hooked.run(LOOK).stdout.splitlines() == [
        " ".join([*governors[:4], *["performance"] * 4]),
        "0-3",
        "0f",
        "64 64",
        "vlan 69",
        "4 vfio-pci",
        USER,
        "--config /home/grassyloki/barrierconfig.conf",
        "2",
    ]
    hooked.destroy(NAME)
    assert primary(desktop) == "DUMMY0"
    for _ in range(effort(0, 9)):
        hooked.start(NAME)
        hooked.destroy(NAME)
    hooked.run("! systemctl list-units --plain --no-legend 'vfio-hooks-*' | grep .")
    events = json.loads(hooked.run(f"vfio-hooks log {NAME} --json").stdout)["events"]
    took = {event["event"]: event["milliseconds"] / 1000 for event in events}
    print(f"\n{hooked.release}: the hook took", {name: f"{s:.1f} s" for name, s in took.items()})
    print(f"in all {sum(took.values()):.1f} s; the guide's scripts sleep {PAUSES:g} s")
    assert set(took) >= {"prepare", "started", "stopped", "release"}
