"""[gpu] alive: a guest that never takes its card is ended where vm.toml says so, and one that does
is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU, GPU_GROUP
from tests.vm.lending import at_home, drivers, given, managed_vm
from tests.vm.test_irqs import ENABLE, SLOT

pytestmark = pytest.mark.vm

VM = Domain("alive", given(*GPU_GROUP))
TOML = '[pci]\n[gpu]\nfunctions = ["{}"]\nalive = 5\nalive_action = "destroy"\n'


def test_a_guest_that_shows_nothing_is_ended(hooked: Guest) -> None:
    with managed_vm(hooked, VM, TOML.format(GPU)):
        hooked.start(VM.name)
        hooked.wait(f"virsh -q domstate {VM.name} | grep -q 'shut off'")
        hooked.wait("! ls /run/vfio-hooks/*.journal")
        assert drivers(hooked, *GPU_GROUP) == at_home(*GPU_GROUP)
        log = hooked.log()
    assert f"{VM.name}: alive: no sign of life within 5 s: {GPU}: bus mastering off" in log
    assert f"{VM.name}: alive: destroy, as alive_action says" in log


def test_a_guest_that_takes_its_card_is_left_alone(hooked: Guest) -> None:
    """What its driver would do first is done through QEMU's monitor, to the sound function, whose
    slot the guest's own, unprogrammed bus numbers reach."""
    audio = GPU_GROUP[1]
    slotted = replace(
        Domain("real", given(GPU_GROUP[0], GPU_GROUP[2])),
        extra_devices=given(audio)[0].xml().replace("</hostdev>", SLOT),
    )
    toml = TOML.format(audio).replace("alive = 5", "alive = 60")
    with managed_vm(hooked, slotted, toml):
        hooked.start(slotted.name)
        hooked.run(ENABLE)
        hooked.run("virsh -q qemu-monitor-command --hmp real 'o /w 0xcf8 0x80008004'")
        hooked.run("virsh -q qemu-monitor-command --hmp real 'o /h 0xcfc 6'")
        hooked.wait(f"journalctl -qt vfio-hooks | grep -q 'alive: the guest.s driver has {audio}'")
        assert hooked.virsh("domstate", slotted.name).stdout.strip() == "running"
        hooked.run("vfio-hooks alive real")
