"""The gpu plugin on a network card, which has resets to choose from and can be made to fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import FOLDER, HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import NIC
from tests.vm.lending import at_home, drivers

DEVICE = f"/sys/bus/pci/devices/{NIC}"


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    yield Direct(hooked)
    Direct(hooked).forget()


def manage(vms: Direct, keys: str, timeout: int = 120) -> None:
    """A VM with the card. On a busy machine its driver's probe may take more than 15 s."""
    domain = Domain("gaming", (HostDevice(NIC, managed=False),))
    vms.manage(domain, f'[gpu]\nfunctions = ["{NIC}"]\n{keys}\n[pci]\ntimeout = {timeout}\n')


@pytest.mark.parametrize("rescan", [True, pytest.param(False, marks=pytest.mark.matrix_only)])
def test_a_device_that_its_driver_refuses(vms: Direct, rescan: bool) -> None:
    """Without the address of its registers e1000e fails in its probe, again and again. The
    kernel gives it a new one when it finds the device anew."""
    guest = vms.guest
    manage(vms, "" if rescan else "rescan = false", timeout=15)
    assert vms.start("gaming") == ""
    guest.run(f"echo {NIC} > {DEVICE}/driver/unbind; setpci -s {NIC} BASE_ADDRESS_0=0")
    vms.stop("gaming")
    log = "\n".join(guest.log().splitlines()[-60:])
    assert f"{NIC}: e1000e did not take the device within 15 s" in log
    if rescan:
        assert drivers(guest, NIC) == at_home(NIC)
        assert f"{DEVICE}/driver: e1000e after all" in log
        assert "nothing is changed" in guest.run("vfio-hooks status").stdout
    else:
        assert drivers(guest, NIC) == {NIC: "none"}
        guest.run(f"echo 1 > {DEVICE}/remove; echo 1 > /sys/bus/pci/rescan; udevadm settle")
        guest.run("vfio-hooks undo gaming")
    guest.wait(f"ls {DEVICE}/net | grep -qv ^eth")


@pytest.mark.every_release
def test_resets_and_power(vms: Direct) -> None:
    guest = vms.guest
    files = f"cd {DEVICE} && paste reset_method d3cold_allowed power/control"
    before = guest.run(files).stdout
    assert before != "bus\t0\ton\n"
    manage(vms, 'reset_method = "bus"\nd3cold = false\npower = "on"')
    assert vms.start("gaming") == ""
    guest.run(f"{HOOKS}/qemu gaming started begin - < {FOLDER}/gaming.xml")
    assert guest.run(files).stdout == "bus\t0\ton\n"
    vms.stop("gaming")
    assert guest.run(files).stdout == before


@pytest.mark.matrix_only
def test_a_reset_that_there_is_not(vms: Direct) -> None:
    manage(vms, 'reset_method = "device_specific"')
    assert f"{DEVICE}/reset_method: cannot write 'device_specific': Invalid" in vms.start("gaming")
