"""The emulated host has what a passthrough host has.

What comes from the kernel or systemd is looked at on every release. Where a device is missing, the
tests that use it fail there.
"""

from __future__ import annotations

import json

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import (
    BOOT_VGA,
    DRIVERS,
    GPU,
    GPU_GROUP,
    NVME,
    NVME_SERIALS,
    SRIOV_PF,
)
from vfio_hooks.rehearse.compared import difference

pytestmark = pytest.mark.vm
DEVICES = "/sys/bus/pci/devices"


@pytest.mark.every_release
def test_two_nodes_of_two_cores_with_two_threads_each(guest: Guest) -> None:
    """The guide's host: pins, siblings and nodes all differ."""
    online = guest.run("cat /sys/devices/system/node/node[0-9]*/cpulist").stdout.split()
    siblings = guest.run(
        "cat /sys/devices/system/cpu/cpu*/topology/thread_siblings_list | sort -u"
    ).stdout.split()
    caches = guest.run(
        "cat /sys/devices/system/cpu/cpu*/cache/index3/shared_cpu_list | sort -u"
    ).stdout.split()
    assert (online, siblings) == (["0-3", "4-7"], ["0-1", "2-3", "4-5", "6-7"])
    assert caches == ["0-3", "4-7"]


def test_the_gpu_is_a_group_of_three(guest: Guest) -> None:
    """GPU, sound and USB have to be passed through together, and nothing else with them."""
    group = guest.run(f"ls {DEVICES}/{GPU}/iommu_group/devices").stdout.split()
    assert tuple(group) == GPU_GROUP


def test_other_devices_have_groups_of_their_own(guest: Guest) -> None:
    """A NIC, a drive or the SR-IOV card can go to a VM alone."""
    for address in set(DRIVERS) - set(GPU_GROUP):
        group = guest.run(f"ls {DEVICES}/{address}/iommu_group/devices").stdout.split()
        assert group == [address]


def test_devices_are_driven_by_the_host(guest: Guest) -> None:
    """Taking a device from its driver, and giving it back, is what the hooks are about."""
    for address, driver in DRIVERS.items():
        link = guest.run(f"readlink {DEVICES}/{address}/driver").stdout.strip()
        assert link.endswith(f"/{driver}"), address


def test_the_boot_display_is_another_one(guest: Guest) -> None:
    """The console does not hang on the GPU that is passed through."""
    assert guest.read(f"{DEVICES}/{BOOT_VGA}/boot_vga").strip() == "1"
    assert "frame buffer device" in guest.run("cat /sys/class/vtconsole/*/name").stdout


def test_two_drives_can_be_told_apart(guest: Guest) -> None:
    """By their serial numbers, because the kernel numbers them in any order."""
    found = {
        address: guest.run(f"cat {DEVICES}/{address}/nvme/nvme*/serial").stdout.strip()
        for address in NVME
    }
    assert found == dict(zip(NVME, NVME_SERIALS, strict=True))


def test_a_virtual_function_comes_and_goes(guest: Guest) -> None:
    """The SR-IOV card makes VFs, takes a VLAN for one, and makes them vanish again."""
    pf = f"{DEVICES}/{SRIOV_PF}"
    interface = guest.run(f"ls {pf}/net").stdout.strip()
    guest.run(f"echo 2 > {pf}/sriov_numvfs")
    try:
        guest.run(f"ip link set {interface} vf 1 vlan 69")
        link = json.loads(guest.run(f"ip -j link show {interface}").stdout)[0]
        assert [function["vf"] for function in link["vfinfo_list"]] == [0, 1]
        assert link["vfinfo_list"][1]["vlan_list"][0]["vlan"] == 69
        group = guest.run(f"ls {pf}/virtfn1/iommu_group/devices").stdout.split()
        assert len(group) == 1
    finally:
        guest.run(f"echo 0 > {pf}/sriov_numvfs")


@pytest.mark.every_release
def test_each_cpu_has_a_governor_to_choose(guest: Guest) -> None:
    """acpi_cpufreq took the table that the emulated machine was given."""
    folder = "/sys/devices/system/cpu/cpufreq"
    governors = guest.read(f"{folder}/policy7/scaling_available_governors").split()
    expected = {"conservative", "ondemand", "performance", "powersave", "schedutil", "userspace"}
    assert set(governors) == expected
    assert len(guest.run(f"ls -d {folder}/policy*").stdout.split()) == 8


@pytest.mark.every_release
def test_cgroups_are_version_2(guest: Guest) -> None:
    """systemd moves tasks by AllowedCPUs, which needs the cpuset controller."""
    assert "cpuset" in guest.read("/sys/fs/cgroup/cgroup.controllers").split()


def test_irqbalance_runs_and_listens(guest: Guest) -> None:
    """It is what undoes a mask that a hook writes behind its back."""
    guest.run("systemctl is-active irqbalance.service")
    assert guest.run("ls /run/irqbalance/").stdout.strip()


@pytest.mark.every_release
def test_apparmor_confines_libvirtd(guest: Guest) -> None:
    """A hook runs under this profile, so what it may not do has to show here."""
    label = guest.run("cat /proc/$(pidof libvirtd)/attr/current").stdout.strip()
    assert label == "libvirtd (enforce)"


def test_the_user_of_the_guide_exists(guest: Guest) -> None:
    """Some hooks act for the desktop's user."""
    assert guest.run("id -u", user="grassyloki").stdout.strip() == "1000"


@pytest.mark.matrix_only
def test_a_plain_domain_starts_and_stops(guest: Guest) -> None:
    """Without any hook."""
    domain = Domain("plain", memory=64)
    guest.define(domain)
    try:
        guest.start(domain.name)
        assert guest.virsh("domstate", domain.name).stdout.strip() == "running"
        guest.destroy(domain.name)
    finally:
        guest.remove(domain.name)


@pytest.mark.matrix_only
def test_a_domain_takes_the_gpu_and_gives_it_back(guest: Guest) -> None:
    """libvirt's own rebinding works on all three functions."""
    domain = Domain("gpu", devices=tuple(HostDevice(address) for address in GPU_GROUP))
    guest.define(domain)
    try:
        guest.start(domain.name)
        for address in GPU_GROUP:
            link = guest.run(f"readlink {DEVICES}/{address}/driver").stdout.strip()
            assert link.endswith("/vfio-pci"), address
        guest.destroy(domain.name)
    finally:
        guest.remove(domain.name)


def test_the_snapshot_sees_a_change(guest: Guest) -> None:
    """Else the check after each test would pass whatever a hook leaves behind."""
    governor = "/sys/devices/system/cpu/cpufreq/policy3/scaling_governor"
    before, own = guest.snapshot(), guest.read(governor).strip()
    guest.run(f"echo powersave > {governor}")
    changed = difference(before, guest.snapshot())
    guest.run(f"echo {own} > {governor}")
    assert changed == [f"cpufreq policy3 scaling_governor: {own!r} -> 'powersave'"]
