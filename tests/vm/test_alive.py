"""[gpu] alive: a guest that never takes its card is ended where vm.toml says so, and one that does
is left alone."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_GROUP
from tests.vm.lending import at_home, drivers, given, managed_vm
from tests.vm.test_irqs import ENABLE, SLOT

pytestmark = pytest.mark.vm

WATCH = "vfio-hooks-alive-$(virsh domuuid alive | head -n 1).service"
KILLS = {
    "service": f"systemctl kill --signal=KILL {WATCH}",
    "qemu": "kill -KILL $(cat /run/libvirt/qemu/alive.pid)",
    "libvirtd": "systemctl kill --signal=KILL --kill-whom=main libvirtd",
}
"""How each is killed that has a part in the watch."""
HOOK = "^/usr/bin/python3 -IS /etc/libvirt/hooks/qemu alive {}"
VM = Domain("alive", given(*GPU_GROUP))
TOML = '[pci]\n[gpu]\nfunctions = ["{}"]\nalive = 5\nalive_action = "destroy"\n'
UNIT = "/run/systemd/system/display-manager.service"
DESKTOP = "[Service]\nExecStart=sleep infinity\n"
"""Stands in for a desktop."""
IMAGE = "/var/lib/libvirt/images/alive.img"
DISK = (
    f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{IMAGE}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)
# QEMU counts what its monitor writes as the guest's.
WRITE = 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "aio_write 0 4k"'
WRITES = f"while virsh -q qemu-monitor-command --hmp alive '{WRITE}'; do sleep 1; done"


def test_a_guest_that_shows_nothing_is_ended(hooked: Guest) -> None:
    hooked.put(UNIT, DESKTOP)
    hooked.run("systemctl daemon-reload; systemctl start display-manager")
    try:
        with managed_vm(hooked, VM, f"{TOML.format(GPU)}[session]\n"):
            hooked.start(VM.name)
            hooked.wait(f"virsh -q domstate {VM.name} | grep -q 'shut off'", deadline=120)
            hooked.wait("! ls /run/vfio-hooks/*.journal")
            assert drivers(hooked, *GPU_GROUP) == at_home(*GPU_GROUP)
            hooked.run("systemctl is-active display-manager")
            log = hooked.log()
    finally:
        hooked.run(f"systemctl stop display-manager; rm {UNIT}; systemctl daemon-reload")
    told = (
        "display-manager.service: active → inactive",
        f"{VM.name}: alive: no sign of life within 5 s: {GPU}: bus mastering off",
        f"{VM.name}: alive: destroy, as alive_action says",
        f"{VM.name}: release",
        "display-manager.service: inactive → active",
    )
    places = [log.rfind(line) for line in told]
    assert -1 not in places and places == sorted(places), log


def test_a_guest_that_takes_its_card_is_left_alone(hooked: Guest) -> None:
    """What its driver would do first is done through QEMU's monitor, to the sound function, whose
    slot the guest's own, unprogrammed bus numbers reach."""
    audio = GPU_GROUP[1]
    slotted = replace(
        Domain("real", given(GPU_GROUP[0], GPU_GROUP[2])),
        extra_devices=given(audio)[0].xml().replace("</hostdev>", SLOT),
    )
    toml = TOML.format(audio).replace("alive = 5", "alive = 3600")
    with managed_vm(hooked, slotted, toml):
        hooked.start(slotted.name)
        hooked.run(ENABLE)
        hooked.run("virsh -q qemu-monitor-command --hmp real 'o /w 0xcf8 0x80008004'")
        hooked.run("virsh -q qemu-monitor-command --hmp real 'o /h 0xcfc 6'")
        hooked.wait(f"journalctl -qt vfio-hooks | grep -q 'alive: the guest.s driver has {audio}'")
        assert hooked.virsh("domstate", slotted.name).stdout.strip() == "running"
        hooked.run("vfio-hooks alive real")


@pytest.mark.matrix_only
def test_a_guest_that_writes_to_its_disk_is_left_alone(hooked: Guest) -> None:
    """For as long as it writes."""
    hooked.run(f"truncate -s 64K {IMAGE}; date +%s > /run/begun")
    try:
        with managed_vm(hooked, replace(VM, extra_devices=DISK), TOML.format(GPU)):
            hooked.start(VM.name)
            hooked.run(f"systemd-run --unit=writing bash -c {shlex.quote(WRITES)}")
            main = hooked.run(f"systemctl show --property=MainPID --value {WATCH}").stdout.strip()
            hooked.wait(f"[ $(ps -o etimes= -p {main}) -gt 60 ]")
            assert hooked.virsh("domstate", VM.name).stdout.strip() == "running"
            hooked.run("systemctl stop writing")
            logged(hooked, "alive: no sign of life within 5 s")
            nothing_is_left(hooked)
    finally:
        hooked.run(f"rm {IMAGE} /run/begun")


def logged(guest: Guest, text: str) -> None:
    """Wait until the hook or the watch has said so since the test began."""
    guest.wait(f"journalctl --quiet -t vfio-hooks --since=@$(cat /run/begun) | grep -q '{text}'")


def nothing_is_left(guest: Guest) -> None:
    guest.wait("virsh list > /dev/null && ! ls /run/vfio-hooks/*.journal")
    assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
    guest.wait("! systemctl list-units --plain --no-legend 'vfio-hooks-alive*' | grep -q .")


@pytest.mark.matrix_only
@pytest.mark.parametrize("victim", KILLS)
@pytest.mark.parametrize("phase", ["watching", "alive", "ending"])
def test_whoever_is_killed(hooked: Guest, phase: str, victim: str) -> None:
    """Nothing is stuck, and no VM is ended but one whose watch says so."""
    seconds = 5 if phase == "ending" else 3600
    toml = TOML.format(GPU).replace("alive = 5", f"alive = {seconds}")
    with managed_vm(hooked, VM, toml):
        hooked.run("date +%s > /run/begun")
        hooked.start(VM.name)
        if phase == "alive":
            hooked.run(f"vfio-hooks alive {VM.name}")
            logged(hooked, "alive: somebody ran vfio-hooks alive")
        elif phase == "ending":
            logged(hooked, "no sign of life within 5 s")
        # In the last phase it may be gone by now.
        hooked.run(KILLS[victim], check=phase != "ending")
        if victim == "service" and phase != "ending":
            hooked.wait(f"vfio-hooks status {VM.name} | grep -q 'it has died; journalctl -u'")
        if victim != "qemu" and phase != "ending":
            # domstate is known as soon as libvirtd is back, this only once it has its VM again. A
            # destroy before that ends the VM, and fails: "domain is not running".
            hooked.wait(f"virsh dommemstat {VM.name}")
            hooked.destroy(VM.name)
        elif victim == "service":
            # Whether libvirt was asked before that is open.
            hooked.destroy(VM.name, check=False)
        nothing_is_left(hooked)


@pytest.mark.matrix_only
@pytest.mark.parametrize("op", ["prepare", "started"])
def test_a_hook_that_is_killed(hooked: Guest, op: str) -> None:
    """libvirt itself gives the start up then, and nothing of it is left."""
    with managed_vm(hooked, VM, TOML.format(GPU)):
        line = f"until pkill --signal KILL --full '{HOOK.format(op)}'; do sleep 0.05; done"
        hooked.run(f"timeout 120 bash -c {shlex.quote(line)} > /dev/null 2>&1 &")
        assert hooked.start(VM.name, check=False).returncode
        nothing_is_left(hooked)
