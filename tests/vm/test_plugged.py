"""What a VM gets while it runs, which no hook is told of: its CPUs and interrupts then."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import NVME
from tests.vm.lending import at_home, drivers, lent, managed_vm
from tests.vm.test_cpus import confined, look
from tests.vm.test_irqs import masks

pytestmark = pytest.mark.matrix_only

PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(
    f"<controller type='pci' index='{index}' model='pcie-root-port'/>" for index in (1, 2)
)
DEVICE = "/run/device.xml"
LINE = f"$(grep -l 'vfio-intx({NVME[0]})' /sys/kernel/irq/*/actions | cut -d/ -f5)"


@dataclass(frozen=True)
class Growing(Domain):
    """A domain that has one of its two vCPUs when it starts. Only this one has a pin."""

    def xml(self) -> str:
        return super().xml().replace("<vcpu placement='static'>", "<vcpu current='1'>")


def test_a_function_and_a_vcpu_that_are_plugged_in(hooked: Guest) -> None:
    """Their interrupts and CPUs are the VM's, and all is as before when it has ended."""
    domain = Growing("grows", vcpus=2, pins={0: "4"}, extra_devices=PORTS)
    before, interrupts = look(hooked), masks(hooked)
    hooked.put(DEVICE, HostDevice(NVME[0]).xml())
    with managed_vm(hooked, domain, "[cpus]\n[irqs]\n"):
        hooked.start(domain.name)
        assert confined(look(hooked), "0-3,5-7", "ef")
        hooked.virsh("attach-device", domain.name, DEVICE, "--live")
        assert drivers(hooked, NVME[0]) == lent(NVME[0])
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
        hooked.destroy(domain.name)
        assert look(hooked) == before
        assert drivers(hooked, NVME[0]) == at_home(NVME[0])
        movable, _, default = masks(hooked)
        assert default == interrupts[2]
        # The disk's own are new ones.
        assert {movable[number] for number in movable.keys() - interrupts[0].keys()} <= {"0-7"}
        same = movable.keys() & interrupts[0].keys()
        assert {number: movable[number] for number in same} == {
            number: interrupts[0][number] for number in same
        }
        hooked.wait("! systemctl list-units --plain --no-legend 'vfio-hooks-v*' | grep -q .")
    hooked.run(f"rm {DEVICE}")
