"""vfio-hooks why, with starts that fail for real: what libvirt, QEMU and the kernel say of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import CHECKOUT, Guest
from tests.vm.hardware import GPU, NIC
from tests.vm.lending import given, held_open, managed_vm

pytestmark = pytest.mark.vm

BUSY = {"soft-lockup", "rcu-stall", "hung-task", "tsc-unstable"}
"""What a healthy kernel may say as well on an emulated CPU that stands still for long."""
VM = Domain("why")
OTHER = Domain("why-other", given(NIC))
# It has to be a VM of the hook's, so that the start is found also where QEMU never ran.
TOML = '[[write]]\npath = "vm.swappiness"\nvalue = 7\n'
QEMU_NAMESPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
    "<source file='/var/lib/libvirt/images/why.img'/><target dev='vda' bus='virtio'/></disk>"
)


def with_rom(file: str) -> str:
    device = HostDevice(NIC).xml()
    return device.replace("</hostdev>", f"<rom file='{file}'/></hostdev>")


def with_arguments(xml: str, *words: str) -> str:
    arguments = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    opened = xml.replace("<domain ", f"<domain {QEMU_NAMESPACE} ", 1)
    return opened.replace("</domain>", f"<qemu:commandline>{arguments}</qemu:commandline></domain>")


REFUSED: dict[str, str] = {
    "group-not-viable": replace(VM, devices=given(GPU)).xml(),
    "no-backing-memory": replace(VM, hugepages=2048).xml(),
    "no-memory": replace(VM, memory=4_000_000).xml(),
    "rom-file-absent": replace(VM, extra_devices=with_rom("/var/lib/libvirt/no.rom")).xml(),
}
"""Domains that libvirt or QEMU refuses to start, by what is known of the line that they say."""


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    with managed_vm(hooked, VM, TOML):
        yield hooked
        hooked.remove(VM.name)


def names(guest: Guest) -> set[str | None]:
    """What is known of the lines since the last start."""
    guest.run("journalctl --sync")
    told = json.loads(guest.run(f"vfio-hooks why {VM.name} --json").stdout)["lines"]
    return {line["name"] for line in told} - {None}


@pytest.mark.parametrize(
    "name",
    [
        "group-not-viable",
        pytest.param("no-memory", marks=pytest.mark.matrix_only),
        pytest.param("no-backing-memory", marks=pytest.mark.matrix_only),
        pytest.param("rom-file-absent", marks=pytest.mark.matrix_only),
    ],
)
def test_a_start_that_is_refused_is_explained(host: Guest, name: str) -> None:
    host.define(REFUSED[name])
    assert host.start(VM.name, check=False).returncode != 0
    assert name in names(host)


@pytest.mark.matrix_only
def test_a_machine_type_that_will_be_gone(host: Guest) -> None:
    if host.release == "bookworm":
        pytest.skip("its QEMU does not say so yet")
    # QEMU tells it of what is more than three years old.
    older = "pc-q35-6.2" if host.release == "trixie" else "pc-q35-7.0"
    host.define(VM.xml().replace("machine='q35'", f"machine='{older}'"))
    host.start(VM.name)
    assert names(host) == {"machine-deprecated"}


@pytest.mark.every_release
def test_a_healthy_boot_and_start_have_no_explanation(host: Guest) -> None:
    host.define(replace(VM, devices=given(NIC)))
    host.start(VM.name)
    host.destroy(VM.name)
    assert names(host) <= BUSY
    # Other tests provoke lines in the same boot, but later than this.
    booted = float(host.run(f"stat --format=%Y {CHECKOUT}").stdout)
    told = json.loads(host.run("vfio-hooks why --json").stdout)["lines"]
    told = [one for one in told if datetime.fromisoformat(one["time"]).timestamp() <= booted]
    assert [one for one in told if one["name"] not in BUSY] == []


@pytest.mark.matrix_only
@pytest.mark.parametrize(
    ("managed", "expected"), [(True, "device-in-other-vm"), (False, "device-not-detached")]
)
def test_what_only_virsh_is_told(host: Guest, managed: bool, expected: str) -> None:
    host.define(replace(VM, devices=given(NIC, managed=managed)))
    if managed:
        host.define(OTHER)
        host.start(OTHER.name)
    try:
        told = host.start(VM.name, check=False).stderr
        answer = json.loads(host.run("vfio-hooks why --file - --json", input=told).stdout)
        assert [line["name"] for line in answer["lines"]] == [expected], told
    finally:
        host.remove(OTHER.name)


@pytest.mark.matrix_only
def test_a_machine_type_that_is_not_there(host: Guest) -> None:
    xml = VM.xml().replace("machine='q35'", "machine='pc-q35-99.0'")
    told = host.run("virsh --quiet define /dev/stdin", input=xml, check=False).stderr
    answer = json.loads(host.run("vfio-hooks why --file - --json", input=told).stdout)
    assert [line["name"] for line in answer["lines"]] == ["machine-gone"], told


@pytest.mark.denials
def test_a_file_that_apparmor_refuses(host: Guest) -> None:
    backend = "memory-backend-file,id=m,mem-path=/srv/why.shm,size=1M,share=on"
    host.run("truncate -s 1M /srv/why.shm && chmod 666 /srv/why.shm")
    host.define(with_arguments(VM.xml(), "-object", backend))
    try:
        assert host.start(VM.name, check=False).returncode != 0
        assert names(host) == {"apparmor-denied", "shared-memory-refused"}
    finally:
        host.run("rm -f /srv/why.shm")


@pytest.mark.matrix_only
def test_a_disk_image_that_another_vm_writes_to(host: Guest) -> None:
    other = replace(OTHER, devices=(), extra_devices=DISK)
    host.run("truncate -s 1M /var/lib/libvirt/images/why.img")
    host.define(replace(VM, extra_devices=DISK))
    host.define(other)
    host.start(other.name)
    try:
        assert host.start(VM.name, check=False).returncode != 0
        assert names(host) == {"image-locked"}
    finally:
        host.remove(other.name)
        host.run("rm -f /var/lib/libvirt/images/why.img")


def bind(guest: Guest, address: str, override: str) -> None:
    """Give a function to the driver of this name, "" for its own, without libvirt and the hook."""
    folder = f"/sys/bus/pci/devices/{address}"
    guest.run(
        f"modprobe vfio-pci; echo {override} > {folder}/driver_override;"
        f" [ ! -e {folder}/driver ] || echo {address} > {folder}/driver/unbind;"
        f" echo {address} > /sys/bus/pci/drivers_probe"
    )


@contextmanager
def lent_by_hand(guest: Guest, address: str) -> Iterator[None]:
    bind(guest, address, "vfio-pci")
    try:
        yield
    finally:
        bind(guest, address, "")


def test_a_group_that_another_program_has_open(host: Guest) -> None:
    host.define(replace(VM, devices=given(NIC, managed=False)))
    with ExitStack() as stack:
        stack.enter_context(lent_by_hand(host, NIC))
        link = host.run(f"readlink /sys/bus/pci/devices/{NIC}/iommu_group").stdout.strip()
        stack.enter_context(held_open(host, f"/dev/vfio/{link.rpartition('/')[2]}"))
        assert host.start(VM.name, check=False).returncode != 0
        assert names(host) == {"group-busy"}


@pytest.mark.matrix_only
def test_a_device_that_the_host_wants_back(host: Guest) -> None:
    host.define(replace(VM, devices=given(NIC)))
    host.start(VM.name)
    unbind = f"echo {NIC} > /sys/bus/pci/drivers/vfio-pci/unbind"
    host.run(f"systemd-run --quiet --collect --unit=wants-back sh -c '{unbind}'")
    host.wait(f"dmesg | grep -q '{NIC}: Relaying device request to user'")
    assert names(host) == {"device-wanted-back"}
    host.destroy(VM.name)
    host.wait("! systemctl is-active --quiet wants-back")
    # libvirt cannot give back what was taken from it.
    bind(host, NIC, "")
