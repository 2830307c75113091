"""The main job for real: `virsh start` lends the devices, `virsh destroy` gives them back.

After each test the host is compared with what it was before, by a fixture for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_AUDIO, GPU_GROUP, NIC, NVME, SRIOV_PF
from tests.vm.lending import REFUSED, at_home, drivers, given, held_open, lent, managed_vm

JOURNALS = "/run/vfio-hooks"


@pytest.fixture
def vf(hooked: Guest) -> Iterator[str]:
    """A VF of the SR-IOV card, on its host driver."""
    folder = f"/sys/bus/pci/devices/{SRIOV_PF}"
    hooked.run(f"echo 1 > {folder}/sriov_numvfs; udevadm settle")
    address = hooked.run(f"basename $(readlink {folder}/virtfn0)").stdout.strip()
    hooked.wait(f"test -e /sys/bus/pci/devices/{address}/driver")
    yield address
    hooked.run(f"echo 0 > {folder}/sriov_numvfs; udevadm settle")


def lend(hooked: Guest, vf: str, managed: bool) -> None:
    before = drivers(hooked, vf)
    domain = Domain("gaming", given(*GPU_GROUP, vf, managed=managed))
    with managed_vm(hooked, domain):
        hooked.start(domain.name)
        assert drivers(hooked, *GPU_GROUP, vf) == lent(*GPU_GROUP, vf)
        status = hooked.run("vfio-hooks status").stdout
        assert all(address in status for address in (*GPU_GROUP, vf))
        hooked.destroy(domain.name)
        assert drivers(hooked, *GPU_GROUP, vf) == {**at_home(*GPU_GROUP), **before}
        assert "nothing is changed" in hooked.run("vfio-hooks status").stdout


@pytest.mark.every_release
def test_a_gpu_and_a_vf(hooked: Guest, vf: str) -> None:
    lend(hooked, vf, managed=True)


def test_an_unmanaged_gpu_and_vf(hooked: Guest, vf: str) -> None:
    """On other releases test_contract's QEMU that dies has an unmanaged device."""
    lend(hooked, vf, managed=False)


@pytest.mark.matrix_only
def test_two_vms_at_the_same_moment(hooked: Guest) -> None:
    one = Domain("one", given(NIC, managed=False))
    two = Domain("two", given(NVME[1]))
    with managed_vm(hooked, one), managed_vm(hooked, two), ThreadPoolExecutor() as pool:
        list(pool.map(hooked.start, ("one", "two")))
        assert drivers(hooked, NIC, NVME[1]) == lent(NIC, NVME[1])
        list(pool.map(hooked.destroy, ("one", "two")))
        assert drivers(hooked, NIC, NVME[1]) == at_home(NIC, NVME[1])


def test_a_prepare_that_fails_half_way(hooked: Guest) -> None:
    domain = Domain("gaming", given(NIC, managed=False))
    with managed_vm(hooked, domain, late=REFUSED):
        failed = hooked.start(domain.name, check=False)
        assert failed.returncode == 1
        assert "/proc/sys/vm/swappiness: cannot write '99999': Invalid argument" in failed.stderr
        told = failed.stderr.partition("unexpected exit status 1: ")[2].strip()
        assert told.count("\n") == 0
        assert drivers(hooked, NIC) == at_home(NIC)
        log = hooked.log()
        assert f"{NIC}/driver: e1000e → vfio-pci (override vfio-pci)" in log
        assert f"{NIC}/driver: vfio-pci (override vfio-pci) → e1000e" in log


def waiting_hook(guest: Guest, domain: Domain) -> None:
    """Start a domain whose second function is held open, and return when the hook waits."""
    start = f"virsh start {domain.name} 2>/run/said"
    guest.start_unit("starter", f"sh -c '{start}'")
    guest.wait(f"test $(readlink /sys/bus/pci/devices/{NIC}/driver | xargs basename) = vfio-pci")


@pytest.mark.matrix_only
def test_the_hook_killed_half_way(hooked: Guest) -> None:
    domain = Domain("gaming", given(NIC, *GPU_GROUP, managed=False))
    with (
        managed_vm(hooked, domain, "[pci]\ntimeout = 300\n"),
        held_open(hooked, "/dev/snd/controlC0"),
    ):
        waiting_hook(hooked, domain)
        hooked.run("pkill --signal KILL --full '^/usr/bin/python3 -IS /etc/libvirt/hooks/qemu'")
        hooked.wait("! systemctl is-active starter")
        assert "unexpected fatal signal 9" in hooked.read("/run/said")
        assert drivers(hooked, NIC, GPU) == at_home(NIC, GPU)


@pytest.mark.parametrize("then", ["undo", pytest.param("start", marks=pytest.mark.matrix_only)])
def test_libvirtd_killed_during_prepare(hooked: Guest, then: str) -> None:
    """Nobody tells the hook that its VM never came to be; it does its work and is gone."""
    domain = Domain("gaming", given(NIC, *GPU_GROUP, managed=False))
    with managed_vm(hooked, domain, "[pci]\ntimeout = 300\n"):
        with held_open(hooked, "/dev/snd/controlC0"):
            waiting_hook(hooked, domain)
            hooked.run("systemctl kill --signal=KILL --kill-whom=main libvirtd")
        hooked.wait("! pgrep --full '^/usr/bin/python3 -IS /etc/libvirt/hooks/qemu'")
        hooked.wait("virsh list")
        assert drivers(hooked, NIC, GPU_AUDIO) == lent(NIC, GPU_AUDIO)
        if then == "start":
            hooked.start(domain.name)
            hooked.destroy(domain.name)
        else:
            hooked.run("vfio-hooks undo gaming")
        assert drivers(hooked, NIC, *GPU_GROUP) == at_home(NIC, *GPU_GROUP)
        hooked.run(f"test -z \"$(find {JOURNALS} -name '*.journal')\"")
