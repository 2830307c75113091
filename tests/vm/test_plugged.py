"""What a VM gets while it runs, which no hook is told of: its CPUs and interrupts then."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import NIC
from tests.vm.lending import at_home, drivers, lent, managed_vm
from tests.vm.test_cpus import confined, look
from tests.vm.test_irqs import masks

pytestmark = pytest.mark.matrix_only

PORTS = """\
<controller type='pci' index='0' model='pcie-root'/>
<controller type='pci' index='1' model='pcie-root-port'>
<address type='pci' domain='0x0000' bus='0x00' slot='0x10' function='0x0'/></controller>
"""
SLOT = "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></hostdev>"
# The guest has no firmware, which would give the port its bus number, and no driver, which would
# enable messages (MSI), in the upper word of the capability.
ENABLE = """\
set -e
where=$(setpci -v -s {0} CAP_MSI.l | sed 's/.*cap 05 @\\(..\\).*/\\1/')
out() {{ virsh -q qemu-monitor-command --hmp grows "o $*"; }}
out /w 0xcf8 0x80008018
out /w 0xcfc 0x00010100
out /w 0xcf8 0x800100$where
out /h 0xcfe 1
"""
VECTORS = f"/sys/bus/pci/devices/{NIC}/msi_irqs"
SLICES = "/sys/fs/cgroup/machine.slice"
PARTITIONS = (
    f"cat {SLICES}/*/libvirt/vcpu?/cpuset.cpus.partition /sys/fs/cgroup/cpuset.cpus.isolated"
)
DEVICE = "/run/device.xml"
LINE = f"$(grep -l 'vfio-intx({NIC})' /sys/kernel/irq/*/actions | cut -d/ -f5)"


@dataclass(frozen=True)
class Growing(Domain):
    """A domain that has one of its two vCPUs when it starts. Only this one has a pin."""

    def xml(self) -> str:
        return super().xml().replace("<vcpu placement='static'>", "<vcpu current='1'>")


def vectors(guest: Guest) -> list[str]:
    """The interrupts that the function has as messages."""
    return guest.run(f"ls {VECTORS}", check=False).stdout.split()


def test_a_function_and_a_vcpu_that_are_plugged_in(hooked: Guest) -> None:
    """Their interrupts and CPUs are the VM's, and all is as before when it has ended."""
    domain = Growing("grows", vcpus=2, pins={0: "4"}, extra_devices=PORTS)
    before, interrupts = look(hooked), masks(hooked)
    hooked.put(DEVICE, HostDevice(NIC).xml().replace("</hostdev>", SLOT))
    with managed_vm(hooked, domain, "[cpus]\n[irqs]\n"):
        hooked.start(domain.name)
        assert confined(look(hooked), "0-3,5-7", "ef")
        hooked.virsh("attach-device", domain.name, DEVICE, "--live")
        assert drivers(hooked, NIC) == lent(NIC)
        hooked.wait(f"grep -qx 4 /proc/irq/{LINE}/smp_affinity_list")
        hooked.virsh("setvcpus", domain.name, "2", "--live")
        hooked.virsh("vcpupin", domain.name, "1", "5", "--live")
        hooked.wait(f"grep -qx 4-5 /proc/irq/{LINE}/smp_affinity_list")
        found = look(hooked)
        assert confined(found, "0-3,6-7", "cf"), found
        own = hooked.run(f"echo {LINE}").stdout.strip()
        movable, _, default = masks(hooked)
        assert default == "cf"
        assert {number for number, mask in movable.items() if set(mask) & set("45")} == {own}
        assert vectors(hooked) == []
        hooked.run(ENABLE.format(NIC))
        numbers = vectors(hooked)
        assert numbers
        for number in numbers:
            hooked.wait(f"grep -qx 4-5 /proc/irq/{number}/smp_affinity_list")
        hooked.destroy(domain.name)
        assert look(hooked) == before
        assert drivers(hooked, NIC) == at_home(NIC)
        movable, _, default = masks(hooked)
        assert default == interrupts[2]
        # The network card's own are new ones.
        assert {movable[number] for number in movable.keys() - interrupts[0].keys()} <= {"0-7"}
        same = movable.keys() & interrupts[0].keys()
        assert {number: movable[number] for number in same} == {
            number: interrupts[0][number] for number in same
        }
        hooked.wait("! systemctl list-units --plain --no-legend 'vfio-hooks-v*' | grep -q .")
    hooked.run(f"rm {DEVICE}")


def test_a_vcpu_that_is_plugged_in_has_a_partition_too(hooked: Guest) -> None:
    """Debian 12's kernel has no partitions."""
    if hooked.release == "bookworm":
        return
    before = look(hooked)
    domain = Growing("grows", vcpus=2, pins={0: "4"}, extra_devices=PORTS)
    with managed_vm(hooked, domain, '[cpus]\npartition = "isolated"\n'):
        hooked.start(domain.name)
        assert hooked.run(PARTITIONS).stdout.split() == ["isolated", "4"]
        hooked.virsh("setvcpus", domain.name, "2", "--live")
        hooked.virsh("vcpupin", domain.name, "1", "5", "--live")
        hooked.wait(f"[ \"$({PARTITIONS} | xargs)\" = 'isolated isolated 4-5' ]")
        hooked.destroy(domain.name)
        assert look(hooked) == before
