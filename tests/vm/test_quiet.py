"""A VM that really runs on CPUs of its own, while all CPUs of the host are busy."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.bench.load import TOML, VM, measure
from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from vfio_hooks.host.cpulist import parse_list

REFUSED = """\
import sys, tempfile
from vfio_hooks.cli.terminal import TerminalLog
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step
host, group = WritableHost(), Partition(sys.argv[1])
engine = Engine(host, StateFolder(tempfile.mkdtemp()), TerminalLog())
uuid = "0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a11"
try:
    engine.perform("started", uuid, "vm", lambda _: [Step("cpus", group, Override("root"))])
except HookError as error:
    print(error)
print(group.read(host))
"""
PARTITIONED = 'partition = "isolated"\n'


@pytest.mark.matrix_only
def test_nothing_of_the_host_comes_to_its_cpus(hooked: Guest) -> None:
    """Also a [verify] of its own, which does not delay the start. test_trace has both, too, with
    fewer programs."""
    before, during, after = measure(hooked, 3, TOML + "[verify]\nseconds = 1\n")
    for seen in (before, after):
        wrong = [line for line in seen.disturbances if line.startswith("wrong")]
        # Which programs, is told by where they were at a look; of these there are few in 3 s here.
        assert "tasks on CPUs 4-5" in wrong[0] and "virtio" in wrong[-1], seen
    assert not [line for line in during.disturbances if line.startswith("wrong")], during
    own = [line for line in during.rest if line.split(": ")[1] in ("vCPU 0", "vCPU 1", "emulator")]
    assert len(own) == 3 and all(line.startswith("ok") for line in own), during
    hooked.wait("journalctl -qt vfio-hooks | grep -q 'quiet: verify: ok: vCPU 0: may use CPU 4,'")


@pytest.mark.every_release
def test_a_partition(hooked: Guest) -> None:
    """Of the vCPUs alone: the emulator stays where it was. Debian 12's kernel cannot do it."""
    if hooked.release == "bookworm":
        direct = Direct(hooked)
        direct.manage(VM, f"[cpus]\n{PARTITIONED}")
        assert "partition needs Linux 6.7 or newer" in direct.start(VM.name)
        direct.forget()
        return
    slices = "/sys/fs/cgroup/machine.slice"
    shown = (
        f"cat {slices}/*/libvirt/vcpu?/cpuset.cpus.partition /sys/fs/cgroup/cpuset.cpus.isolated"
    )
    emulator = f"cat {slices}/*/libvirt/emulator/cpuset.cpus.effective"
    folder = f"/etc/libvirt/hooks/qemu.d/{VM.name}"
    hooked.put(f"{folder}/vm.toml", f"strict_started = true\n[cpus]\n{PARTITIONED}")
    hooked.define(VM)
    try:
        hooked.start(VM.name)
        assert hooked.run(shown).stdout.split() == ["isolated", "isolated", "4-5"]
        assert hooked.run(emulator).stdout == "0-1\n"
        # What cannot be one: the kernel's own words are the failure, and it is a member again.
        group = hooked.run(f"ls -d {slices}/*/libvirt/emulator").stdout.strip()
        line = f"cd /src && python3 -B - {shlex.quote(group)}"
        told = hooked.run(line, input=REFUSED).stdout
        assert re.search(
            r"does not make it a partition: root invalid \(.+\);.*\nmember\n$", told
        ), told
        hooked.run(f"vfio-hooks undo --force {VM.name}")
        assert hooked.run(shown).stdout.split() == ["member", "member"]
    finally:
        hooked.remove(VM.name)
        hooked.run(f"rm -r {folder}")


@pytest.mark.every_release
def test_offline_cpus_and_late_interrupts(hooked: Guest) -> None:
    """A CPU of the host goes offline and comes back while a VM has others; a device that is
    plugged in meanwhile has its interrupts on the CPUs that are left."""
    direct = Direct(hooked)
    direct.manage(Domain("first", vcpus=2, pins={0: "4", 1: "5"}), TOML)
    late = "0000:05:00.0"
    masks = f"for n in $(ls /sys/bus/pci/devices/{late}/msi_irqs);"
    masks += " do cat /proc/irq/$n/smp_affinity_list; done"
    try:
        hooked.run("echo 0 > /sys/devices/system/cpu/cpu7/online")
        assert direct.start("first") == ""
        slices = "/sys/fs/cgroup/system.slice/cpuset.cpus.effective"
        assert hooked.read(slices) == "0-3,6\n"
        hooked.run(f"echo 1 > /sys/bus/pci/devices/{late}/remove; echo 1 > /sys/bus/pci/rescan")
        # Its interface has its name when udev has given it one.
        hooked.wait(f"ls /sys/bus/pci/devices/{late}/net | grep -qv ^eth")
        hooked.run(f"ip link set $(ls /sys/bus/pci/devices/{late}/net) up")
        found = hooked.run(masks).stdout.split()
        assert found and not any(parse_list(mask) & {4, 5} for mask in found), found
        hooked.run("echo 1 > /sys/devices/system/cpu/cpu7/online")
        direct.stop("first")
    finally:
        hooked.run("echo 1 > /sys/devices/system/cpu/cpu7/online")
        hooked.run(f"ip link set $(ls /sys/bus/pci/devices/{late}/net) down", check=False)
        direct.forget()
