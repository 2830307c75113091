"""The irqs plugin on the real kernel, with irqbalance, and a VM that libvirt really runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_AUDIO, GPU_USB
from tests.vm.test_cpus import FIRST, SECOND, confined, look

# Each interrupt that can be moved, with the CPUs that it may go to; and those that cannot.
MASKS = """\
import json, sys
from pathlib import Path
movable, fixed = {}, []
for folder in Path("/proc/irq").glob("[0-9]*"):
    path = folder / "smp_affinity_list"
    text = path.read_text().strip()
    try:
        path.write_text(text)
    except OSError:
        fixed.append(int(folder.name))
    else:
        movable[folder.name] = text
default = Path("/proc/irq/default_smp_affinity").read_text().strip()
print(json.dumps({"movable": movable, "fixed": sorted(fixed), "default": default}))
"""
INTERVAL = """\
set -eu
sed -i 's/--interval=[0-9]*/--interval={}/' /run/systemd/system/irqbalance.service.d/calm.conf
systemctl daemon-reload
systemctl restart irqbalance.service
"""
# Ask irqbalance until it shows this mask of banned CPUs; it prints what it showed last.
BANNED = """\
import glob, sys
from contextlib import suppress
sys.path.insert(0, "/src")
from vfio_hooks.errors import HookError
from vfio_hooks.sockets import ask
from vfio_hooks.wait import until
shown = [""]
def same():
    # A daemon that has just been started has no socket yet, or does not listen at it.
    for socket in glob.glob("/run/irqbalance/*.sock"):
        with suppress(HookError):
            shown[0] = (ask(socket, "setup", 30).split() or [""])[-1]
    return shown[0] == sys.argv[1]
until(same, 180)
print(shown[0])
"""
# Where the guest's own, unprogrammed bus numbers reach the sound card; and what its driver would
# do first: enable messages (MSI), by the control word of the capability at 0x60.
SLOT = "<address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/></hostdev>"
ENABLE = """\
virsh -q qemu-monitor-command --hmp real 'o /w 0xcf8 0x80008060'
virsh -q qemu-monitor-command --hmp real 'o /h 0xcfe 1'
"""
LOAD = (
    "timeout 4 sh -c 'while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct count=200; done'"
)


def masks(guest: Guest) -> tuple[dict[str, str], list[int], str]:
    found = json.loads(guest.run("python3 -", input=MASKS).stdout)
    return found["movable"], found["fixed"], found["default"]


def banned(guest: Guest, wanted: str) -> str:
    """The mask of CPUs that irqbalance keeps off, once it is the wanted one."""
    return guest.run(f"python3 -B - {wanted}", input=BANNED).stdout.strip()


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    direct = Direct(hooked)
    for domain in (FIRST, SECOND):
        direct.manage(domain, "[irqs]\n")
    yield direct
    direct.forget()


@pytest.mark.matrix_only
def test_two_vms_that_share_a_cpu(vms: Direct) -> None:
    before, fixed, default = masks(vms.guest)
    assert default == "ff" and len(fixed) >= 16, "two NVMe drives have a queue for each CPU"
    vms.start("first")
    vms.start("second")
    movable, _, default = masks(vms.guest)
    assert default == "8f"
    assert {mask for number, mask in movable.items() if before[number] == "0-7"} == {"0-3,7"}
    vms.stop("first")
    movable, _, default = masks(vms.guest)
    assert default == "9f"
    assert {mask for number, mask in movable.items() if before[number] == "0-7"} == {"0-4,7"}
    vms.stop("second")
    assert masks(vms.guest)[0] == before


def test_irqbalance_keeps_off(vms: Direct) -> None:
    """Its round is a second here, so this is half a minute of its usual ten. On other releases
    test_a_vm_that_runs has it asked."""
    guest = vms.guest
    guest.run(INTERVAL.format(1))
    try:
        assert banned(guest, "00000000") == "00000000"
        vms.start("first")
        assert banned(guest, "00000030") == "00000030"
        guest.run(LOAD, check=False)
        movable, _, _ = masks(guest)
        assert {number: mask for number, mask in movable.items() if set(mask) & set("45")} == {}
        vms.stop("first")
        assert banned(guest, "00000000") == "00000000"
    finally:
        guest.run(INTERVAL.format(3600))
        guest.calm()


@pytest.mark.every_release
def test_a_vm_that_runs(vms: Direct) -> None:
    """All of it together: cpus and irqs, passed-through devices, libvirt's own pinning, a vector
    that the guest asks for later, and an irqbalance that is started anew."""
    guest = vms.guest
    real = Domain(
        "real",
        (HostDevice(GPU), HostDevice(GPU_USB)),
        vcpus=2,
        pins={0: "4", 1: "5"},
        emulator_pin="0-1",
        extra_devices=HostDevice(GPU_AUDIO).xml().replace("</hostdev>", SLOT),
    )
    guest.put(f"{HOOKS}/qemu.d/real/vm.toml", "[pci]\n[cpus]\n[irqs]\n")
    guest.define(real)
    try:
        guest.start("real")
        found = look(guest)
        assert confined(found, "0-3,6-7", "cf"), found
        # The emulator's thread, QEMU's own helpers beside it, and the two vCPUs.
        assert found["guest"] == ["0-1"]
        threads = "grep -h Cpus_allowed_list /proc/$(cat /run/libvirt/qemu/real.pid)/task/*/status"
        lists = guest.run(threads).stdout.replace("Cpus_allowed_list:", "").split()
        assert sorted(set(lists)) == ["0-1", "4", "5"]
        # Its devices' lines, as no driver in the guest has asked for messages yet.
        lines = "grep -l vfio /sys/kernel/irq/*/actions | cut -d/ -f5"
        numbers = guest.run(lines).stdout.split()
        assert numbers
        for number in numbers:
            guest.wait(f"grep -qx 4-5 /proc/irq/{number}/smp_affinity_list")
        movable, _, default = masks(guest)
        assert default == "cf"
        on_its_cpus = {number for number, mask in movable.items() if mask in ("4", "5", "4-5")}
        assert on_its_cpus == set(numbers)
        vectors = f"/sys/bus/pci/devices/{GPU_AUDIO}/msi_irqs"
        guest.run(f'set -e; test -z "$(ls {vectors} 2> /dev/null)"; {ENABLE}')
        guest.wait(f"grep -qx 4-5 /proc/irq/$(ls {vectors})/smp_affinity_list")
        # The service tells another irqbalance, too.
        asked = "/run/irqbalance/vfio-hooks"
        guest.run(f"rm -f {asked}; systemctl restart irqbalance")
        guest.wait(f"grep -q ' 0-3,6-7 from 0-7$' {asked}")
        # As when QEMU crashes: the service does not outlive it.
        guest.run("kill -9 $(cat /run/libvirt/qemu/real.pid)")
        guest.wait("! systemctl is-active -q 'vfio-hooks-vectors-*'")
        guest.wait("! ls /run/vfio-hooks/*.journal")
        guest.run(f"test ! -e {asked}")
    finally:
        guest.remove("real")
        # Where a new irqbalance has put interrupts is its own affair.
        guest.calm()
