"""The README's way of undoing by hand, on a device that is lent to a VM."""

from __future__ import annotations

import pytest

from tests.test_readme import blocks
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import DRIVERS, NIC

pytestmark = pytest.mark.vm

HOOK = "PYTHONPATH=/src python3 -m vfio_hooks hook by-hand prepare begin -"
PLACES = "--config-dir /tmp/by-hand --state-dir /tmp/by-hand/state"


def test_undo_by_hand(guest: Guest) -> None:
    """Afterwards, `host_unchanged` compares the device's driver and its override."""
    (lines,) = blocks("sh")
    guest.put("/tmp/by-hand/qemu.d/by-hand/vm.toml", "[pci]\n")
    xml = Domain("by-hand", (HostDevice(NIC, managed=False),)).xml()
    guest.run(f"{HOOK} {PLACES}", input=xml)
    driver = f"basename $(readlink /sys/bus/pci/devices/{NIC}/driver)"
    assert guest.run(driver).stdout.strip() == "vfio-pci"
    journal = guest.run("cat /tmp/by-hand/state/*.journal").stdout
    assert f'"address":"{NIC}"' in journal
    assert f'"base":"{DRIVERS[NIC]}"' in journal
    guest.run(f"set -e\n{lines}")
    guest.wait(f'[ "$({driver})" = {DRIVERS[NIC]} ]')
    guest.run("rm -r /tmp/by-hand")
