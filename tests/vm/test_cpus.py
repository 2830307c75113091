"""The cpus plugin on the real kernel and systemd: who may run where, with several VMs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.lending import managed_vm

UNITS = ("init.scope", "system.slice", "user.slice")
FIRST = Domain("first", vcpus=2, pins={0: "4", 1: "5"}, emulator_pin="0-1")
SECOND = Domain("second", vcpus=2, pins={0: "5", 1: "6"})

# Where tasks may run: {"user": [...], "kernel": [...]}, each a set of CPU lists; of kernel threads
# those that can be moved and are not on one CPU only. And what restricts them.
LOOK = """\
import json
from pathlib import Path
from vfio_hooks.host import Host, kthread
found = {"user": set(), "kernel": set(), "guest": set(), "queues": set()}
host = Host()
# Those of pressure stall monitors come and go with every process that watches.
movable = {thread.pid for thread in kthread.movable(host) if thread.name != "psimon"}
for folder in Path("/proc").glob("[0-9]*"):
    try:
        status = (folder / "status").read_text()
        group = (folder / "cgroup").read_text()
        kernel = not (folder / "cmdline").read_text()
    except OSError:
        continue
    cpus = status.partition("Cpus_allowed_list:")[2].split()[0]
    if kernel and int(folder.name) in movable and not cpus.isdecimal():
        found["kernel"].add(cpus)
    elif not kernel:
        found["guest" if "machine.slice" in group else "user"].add(cpus)
for path in Path("/sys/devices/virtual/workqueue").glob("*/cpumask"):
    found["queues"].add(path.read_text().strip())
found["queues"].add(Path("/sys/devices/virtual/workqueue/cpumask").read_text().strip())
for unit in ("init.scope", "system.slice", "user.slice", "machine.slice"):
    path = Path("/sys/fs/cgroup", unit, "cpuset.cpus.effective")
    found[unit] = {path.read_text().strip() if path.exists() else "0-7"}
print(json.dumps({key: sorted(value) for key, value in found.items()}))
"""


def look(guest: Guest) -> dict[str, list[str]]:
    """Where everything may run now."""
    line = "cd /src && python3 -B -"
    found: dict[str, list[str]] = json.loads(guest.run(line, input=LOOK).stdout)
    return found


def confined(found: dict[str, list[str]], cpus: str, mask: str) -> bool:
    """Whether every host task that can be kept off other CPUs is on these, and no guest."""
    groups = ("user", *UNITS)
    return (
        all(found[group] == [cpus] for group in groups)
        and found["queues"] == [mask]
        and found["machine.slice"] == ["0-7"]
    )


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    direct = Direct(hooked)
    for domain in (FIRST, SECOND):
        direct.manage(domain, "[cpus]\n")
    yield direct
    direct.forget()


ORDERS = [
    ("first", "second"),
    pytest.param(("second", "first"), marks=pytest.mark.matrix_only),
]


@pytest.mark.parametrize("order", ORDERS)
def test_two_vms_that_share_a_cpu(vms: Direct, order: tuple[str, str]) -> None:
    before = look(vms.guest)
    assert (vms.start("first"), vms.start("second")) == ("", "")
    both = look(vms.guest)
    assert confined(both, "0-3,7", "8f"), both
    # Those of the second node had only 4-7; nobody is left where a VM is.
    assert set(both["kernel"]) <= {"0-3,7", "0-3"}, both
    vms.stop(order[0])
    one = look(vms.guest)
    left = {"first": ("0-4,7", "9f"), "second": ("0-3,6-7", "cf")}[order[0]]
    assert confined(one, *left), one
    vms.stop(order[1])
    after = look(vms.guest)
    assert after == before


@pytest.mark.every_release
def test_what_was_set_before_comes_back(vms: Direct) -> None:
    guest = vms.guest
    guest.run("systemctl set-property --runtime user.slice AllowedCPUs=2-6")
    try:
        guest.wait("grep -qx 2-6 /sys/fs/cgroup/user.slice/cpuset.cpus")
        vms.start("first")
        assert look(guest)["user.slice"] == ["2-3,6"]
        vms.stop("first")
        assert guest.run("systemctl show -P AllowedCPUs user.slice").stdout == "2-6\n"
        assert look(guest)["user.slice"] == ["2-6"]
    finally:
        guest.run("systemctl set-property --runtime user.slice AllowedCPUs=0-7")
        guest.run("systemctl set-property --runtime user.slice AllowedCPUs=")
        guest.run("rm -rf /run/systemd/system.control/user.slice.d && systemctl daemon-reload")


@pytest.mark.matrix_only
def test_what_cannot_work_is_refused_before_anything_changes(vms: Direct) -> None:
    before = look(vms.guest)
    vms.manage(Domain("loose"), "[cpus]\n")
    vms.manage(Domain("greedy", pins={0: "0-7"}), "[cpus]\n")
    assert vms.start("loose") == (
        "vfio-hooks: cpus: domain loose pins no vCPU, so it has no CPUs to itself; sudo "
        "vfio-hooks init loose --pins chooses CPUs for them"
    )
    assert "pins CPUs 0-7, which are all CPUs of this host" in vms.start("greedy")
    assert look(vms.guest) == before


@dataclass(frozen=True)
class WithOneOff(Domain):
    """A domain whose second vCPU is off when it starts."""

    def xml(self) -> str:
        return super().xml().replace("<vcpu placement='static'>", "<vcpu current='1'>")


@pytest.mark.matrix_only
def test_a_vcpu_that_is_added_later(hooked: Guest) -> None:
    """libvirt calls no hook for it. Its CPU is free from the start, and the host's at the end."""
    domain = WithOneOff("later", vcpus=2, pins={0: "4", 1: "5"})
    there = "grep -hx 'Cpus_allowed_list:.5' /proc/$(cat /run/libvirt/qemu/later.pid)/task/*/status"
    before = look(hooked)
    with managed_vm(hooked, domain, "[cpus]\n[irqs]\n"):
        hooked.start(domain.name)
        assert hooked.run(there, check=False).returncode
        hooked.virsh("setvcpus", domain.name, "2", "--live")
        hooked.run(there)
        assert confined(look(hooked), "0-3,6-7", "cf")
        hooked.destroy(domain.name)
        assert look(hooked) == before
