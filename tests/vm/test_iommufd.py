"""VMs whose devices QEMU has through iommufd: /dev/iommu, and a node of each function's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm import iommufd
from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP, NIC
from tests.vm.lending import at_home, drivers, given, lent, managed_vm, undone_while_it_runs
from tests.vm.process import VmError
from tests.vm.release import TESTING

pytestmark = pytest.mark.matrix_only

OPENED = "find /proc/$(cat /run/libvirt/qemu/{}.pid)/fd -lname '/dev/*' -printf '%l\\n' | sort -u"


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    """A host that has iommufd."""
    if hooked.release != TESTING:
        pytest.skip("libvirt knows iommufd from 12.1 on")
    try:
        modules = iommufd.provide()
    except VmError as error:
        pytest.skip(f"{TESTING} moves, and its kernel's source cannot be had today: {error}")
    with iommufd.loaded(hooked, modules):
        yield hooked


def nodes(guest: Guest, *addresses: str) -> list[str]:
    """The device nodes that iommufd is used with, one for each function."""
    line = "; ".join(f"ls /sys/bus/pci/devices/{address}/vfio-dev" for address in addresses)
    return [f"/dev/vfio/devices/{name}" for name in guest.run(line).stdout.split()]


@pytest.mark.parametrize("managed", [True, False], ids=["managed", "unmanaged"])
def test_the_life_of_a_vm(host: Guest, managed: bool) -> None:
    """Through all events; and another VM is refused meanwhile."""
    modern = Domain("modern", given(*GPU_GROUP, managed=managed), iommufd=True)
    other = Domain("other", given(*GPU_GROUP, managed=managed), iommufd=True)
    with managed_vm(host, modern), managed_vm(host, other):
        host.start(modern.name)
        assert drivers(host, *GPU_GROUP) == lent(*GPU_GROUP)
        opened = host.run(OPENED.format(modern.name)).stdout.split()
        used = [path for path in opened if path.startswith(("/dev/iommu", "/dev/vfio"))]
        assert used == ["/dev/iommu", *sorted(nodes(host, *GPU_GROUP))]
        status = host.run("vfio-hooks status").stdout
        assert all(address in status for address in GPU_GROUP)
        refused = host.start(other.name, check=False)
        assert f"{GPU_GROUP[0]}: " in refused.stderr and "modern" in refused.stderr
        host.destroy(modern.name)
        assert drivers(host, *GPU_GROUP) == at_home(*GPU_GROUP)
        assert "nothing is changed" in host.run("vfio-hooks status").stdout


def test_what_a_running_guest_has_is_not_taken(host: Guest) -> None:
    """Who has it open is found by its own node: nobody has that of its group."""
    direct = Direct(host)
    try:
        with undone_while_it_runs(direct, Domain("other", given(NIC), iommufd=True), NIC) as told:
            (node,) = nodes(host, NIC)
            assert f"has {node} open" in told
    finally:
        direct.forget()
