"""The sriov plugin on igb, with VFs as hostdevs and out of a libvirt network that is a pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import SRIOV_PF
from tests.vm.lending import drivers, lent, managed_vm

PF = f"/sys/bus/pci/devices/{SRIOV_PF}"
VFS = ("0000:08:10.0", "0000:08:10.2", "0000:08:10.4", "0000:08:10.6")
POOL = "<network><name>pool</name><forward mode='hostdev' managed='yes'>{}</forward></network>"
# libvirt forgets a pool's VFs when it writes a domain's AppArmor profile.
PROFILE = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
RULE = "/dev/vfio/[0-9]* rw,\n"
INTERFACE = """\
<interface type='network'><mac address='52:54:00:aa:00:01'/><source network='pool'/></interface>
"""


@pytest.fixture
def card(hooked: Guest) -> Iterator[str]:
    """The card's interface, up: without a link igb takes no rate, and libvirt sets nothing."""
    name = hooked.run(f"ls {PF}/net").stdout.strip()
    hooked.run(f"ip link set {name} up")
    hooked.wait(f"ip link show {name} | grep -q LOWER_UP")
    yield name
    hooked.run(f"ip link set {name} down; echo 0 > {PF}/sriov_numvfs; udevadm settle")


def settings(guest: Guest, card: str) -> dict[int, dict[str, Any]]:
    (link,) = json.loads(guest.run(f"ip -json link show dev {card}").stdout)
    return {vf["vf"]: vf for vf in link["vfinfo_list"]}


def without_address(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """igb invents an address for a VF that has none, whenever the VF's driver asks."""
    return [{**vf, "address": "any"} for vf in found.values()]


def count(guest: Guest) -> str:
    return guest.read(f"{PF}/sriov_numvfs").strip()


@pytest.mark.every_release
def test_two_vms_share_a_card(hooked: Guest, card: str) -> None:
    """Hooks alone: VFs come, are set up, and go with the last VM that has one."""
    vms = Direct(hooked)
    table = f'[[sriov]]\npf = "{card}"\nvf = {{}}\n{{}}\n'
    everything = 'vlan = 69\nqos = 3\nmac = "52:54:00:00:00:07"\ntrust = true\nspoofchk = false\n'
    vms.manage(Domain("one"), table.format(1, everything + "max_tx_rate = 100"))
    vms.manage(Domain("two"), table.format(0, "vlan = 70"))
    vms.manage(Domain("three"), table.format(3, ""))
    vms.manage(Domain("four"), table.format(1, 'state = "enable"'))
    try:
        assert "enable" in vms.start("four")
        assert count(hooked) == "0"
        assert vms.start("one") == ""
        assert vms.start("two") == ""
        found = settings(hooked, card)
        assert found[1]["vlan_list"] == [{"vlan": 69, "qos": 3}]
        assert found[1]["address"] == "52:54:00:00:00:07"
        assert (found[1]["trust"], found[1]["spoofchk"]) == (True, False)
        assert found[1]["rate"] == {"max_tx": 100, "min_tx": 0}
        assert found[0]["vlan_list"] == [{"vlan": 70}]
        assert "VM one has it" in vms.start("three")
        vms.stop("one")
        found = settings(hooked, card)
        assert found[1]["vlan_list"] == [{}]
        assert found[1]["address"] != "52:54:00:00:00:07"
        assert (found[1]["trust"], found[1]["spoofchk"]) == (False, True)
        assert found[1]["rate"] == {"max_tx": 0, "min_tx": 0}
        assert count(hooked) == "2"
        vms.stop("two")
        assert count(hooked) == "0"
    finally:
        vms.forget()


def test_a_card_that_is_lent_with_its_vfs(hooked: Guest, card: str) -> None:
    """igb takes them along when it lets go, and comes back with none. Without a link igb takes no
    rate, and the card comes back with its interface down."""
    hooked.run(
        f"echo 2 > {PF}/sriov_numvfs; udevadm settle; ip link set {card} vf 0 vlan 7 qos 2; "
        f"ip link set {card} vf 1 mac 52:54:00:00:00:07; ip link set {card} vf 1 trust on; "
        f"ip link set {card} vf 1 spoofchk off"
    )
    before = settings(hooked, card)
    vms = Direct(hooked)
    vms.manage(Domain("router", (HostDevice(SRIOV_PF, managed=False),)), "[pci]\n")
    vms.manage(Domain("both", (HostDevice(SRIOV_PF), HostDevice(VFS[1]))), "[pci]\n")
    try:
        assert f"VF 1 ({VFS[1]}) is given to this VM, too" in vms.start("both")
        assert vms.start("router") == ""
        assert drivers(hooked, SRIOV_PF) == lent(SRIOV_PF)
        assert not hooked.run(f"ls -d {PF}/virtfn*", check=False).stdout
        vms.stop("router")
        assert count(hooked) == "2"
        assert without_address(settings(hooked, card)) == without_address(before)
        assert settings(hooked, card)[1]["address"] == "52:54:00:00:00:07"
        assert "could not" not in "\n".join(hooked.log().splitlines()[-40:])
    finally:
        vms.forget()


@pytest.mark.matrix_only
def test_a_vf_that_is_made_for_a_vm(hooked: Guest, card: str) -> None:
    domain = Domain("gaming", (HostDevice(VFS[1]),))
    toml = f'[pci]\n[[sriov]]\npf = "{card}"\nvlan = 69\n'
    with managed_vm(hooked, domain, toml):
        plan = hooked.run("vfio-hooks plan gaming").stdout
        assert "sriov_numvfs: 0 → 2" in plan
        assert "virtfn1 vlan: does not exist yet → 69" in plan
        hooked.start(domain.name)
        assert drivers(hooked, VFS[1]) == lent(VFS[1])
        shown = hooked.run(f"ip link show {card}").stdout
        print(shown)
        assert "vlan 69" in shown
        failed = hooked.run(
            f"vfio-hooks plan --xml - --use sriov <<'END'\n{other()}\nEND", check=False
        )
        assert f"VF 1 ({VFS[1]}) is on vfio-pci: qemu-system-x86 (pid" in failed.stderr
        hooked.destroy(domain.name)
        assert count(hooked) == "0"


def other() -> str:
    return Domain("other", (HostDevice(VFS[3]),)).xml()


@pytest.mark.matrix_only
def test_a_vf_out_of_a_pool(hooked: Guest, card: str) -> None:
    """Which VF it is libvirt says at start; it clears the VLAN before, and puts its own back."""
    hooked.run(f"echo 2 > {PF}/sriov_numvfs; udevadm settle; ip link set {card} vf 0 vlan 7")
    hooked.run("virsh -q net-define /dev/stdin", input=POOL.format(f"<pf dev='{card}'/>"))
    domain = Domain("gaming", extra_devices=INTERFACE)
    hooked.run(f"cp -a {PROFILE} /run/profile || true")
    hooked.put(PROFILE, RULE)
    before = settings(hooked, card)
    try:
        hooked.run("virsh -q net-start pool")
        with managed_vm(hooked, domain, "[pci]\n[[sriov]]\nvlan = 69\ntrust = true\n"):
            plan = hooked.run("vfio-hooks plan gaming").stdout
            assert "libvirt chooses the VF from network pool" in plan
            hooked.start(domain.name)
            assert drivers(hooked, VFS[0]) == lent(VFS[0])
            shown = hooked.run(f"ip link show {card}").stdout
            print(shown)
            found = settings(hooked, card)[0]
            assert found["vlan_list"] == [{"vlan": 69}]
            assert found["trust"] is True
            assert found["address"] == "52:54:00:aa:00:01"
            status = hooked.run("vfio-hooks status").stdout
            assert "virtfn0 vlan, while lent" in status
            assert f"{VFS[0]}/driver" not in status
            hooked.destroy(domain.name)
            assert without_address(settings(hooked, card)) == without_address(before)
            assert drivers(hooked, VFS[0]) == {VFS[0]: "igbvf"}
            log = hooked.run("vfio-hooks log gaming").stdout
            assert "somebody else has set it" not in log
    finally:
        hooked.run("virsh -q net-destroy pool; virsh -q net-undefine pool", check=False)
        # On Debian 12 it has to be there, if only empty: without it no profile is loaded.
        hooked.run(f"mv /run/profile {PROFILE} || rm {PROFILE}")
