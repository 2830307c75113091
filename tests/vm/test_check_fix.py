"""`check --fix` with a real libvirt: it takes the better XML, and the VM starts with it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP

NAME = "worse"
IMAGE = "/var/lib/libvirt/images/worse.img"
PASSWORD = "keepme"
AT = "<address type='pci' domain='0x0000' bus='0x00' slot='0x{:02x}' function='0x0'/></hostdev>"
EXPECTED = {
    *("machine-sleep", "pins-siblings", "pins-emulator", "pins-iothread"),
    *("node-memory", "memory-balloon", "memory-current", "pci-root-bus"),
    *("clock-hpet", "clock-ticks", "disk-iothread", "disk-discard"),
}


def worse() -> str:
    """A domain with most of what can be mended where there is no KVM."""
    disk = (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{IMAGE}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        f"<graphics type='vnc' autoport='yes' passwd='{PASSWORD}'/>"
    )
    xml = Domain(
        NAME,
        tuple(map(HostDevice, GPU_GROUP)),
        vcpus=4,
        # SMT siblings are 4 and 5, 6 and 7.
        pins={0: "4", 1: "6", 2: "5", 3: "7"},
        extra_devices=disk,
    ).xml()
    for slot in (16, 17, 18):
        xml = xml.replace("</source></hostdev>", "</source>" + AT.format(slot), 1)
    for old, new in (
        ("<memballoon model='none'/>", "<memballoon model='virtio'/>"),
        ("</model></cpu>", "</model><topology sockets='1' cores='2' threads='2'/></cpu>"),
        ("<on_poweroff>", "<clock offset='localtime'/><on_poweroff>"),
        ("<vcpu ", "<currentMemory unit='MiB'>100</currentMemory><vcpu "),
        ("<memory ", "<title>a 'title'</title><memory "),
    ):
        assert old in xml
        xml = xml.replace(old, new, 1)
    return xml


@pytest.fixture
def vm(hooked: Guest) -> Iterator[Guest]:
    hooked.run(f"truncate --size 1M {IMAGE}")
    hooked.define(worse())
    yield hooked
    hooked.remove(NAME)
    hooked.run(f"rm -rf {IMAGE} /var/lib/vfio-hooks")


def fixable(guest: Guest) -> set[str]:
    told = guest.run(f"vfio-hooks check {NAME} --json", check=False)
    found = json.loads(told.stdout)["findings"]
    return {one["name"] for one in found if one["fixable"]}


def inactive(guest: Guest) -> str:
    return guest.virsh("dumpxml", "--inactive", "--security-info", NAME).stdout


def test_a_domain_is_mended_and_starts(vm: Guest) -> None:
    assert fixable(vm) >= EXPECTED - {"pins-iothread"}
    before = inactive(vm)
    done = vm.run(f"vfio-hooks check {NAME} --fix --yes")
    assert "+    <memballoon model='none'/>" in done.stdout
    assert PASSWORD not in done.stdout
    after = inactive(vm)
    assert f"passwd='{PASSWORD}'" in after
    kept = vm.run("cat /var/lib/vfio-hooks/*.xml").stdout
    assert kept.strip() == before.strip()

    vm.start(NAME)
    again = vm.run(f"vfio-hooks check {NAME} --fix --yes")
    assert again.stdout == "nothing in the XML needs to be fixed\n"
    assert inactive(vm) == after

    live = vm.virsh("dumpxml", NAME).stdout
    vm.define(after.replace("<memballoon model='none'/>", "<memballoon model='virtio'/>"))
    vm.run(f"vfio-hooks check {NAME} --fix --yes")
    assert "<memballoon model='none'/>" in inactive(vm)
    assert vm.virsh("dumpxml", NAME).stdout == live
    vm.destroy(NAME)
