"""The Debian package on a whole host: installed, upgraded while a device is lent, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_package import build
from tests.vm.guest import Guest
from tests.vm.hardware import DRIVERS, NIC
from tests.vm.test_install import FOREIGN, HOOKS, PASSING

pytestmark = pytest.mark.vm

DEB = "/tmp/vfio-hooks.deb"
INSTALL = f"DEBIAN_FRONTEND=noninteractive dpkg --install {DEB} 2>&1"
LEFT = f"ls -d /usr/lib/vfio-hooks /usr/bin/vfio-hooks {HOOKS}/qemu* 2>/dev/null || true"


@pytest.fixture
def host(guest: Guest, tmp_path: Path) -> Iterator[Guest]:
    """A host without vfio-hooks, with its package."""
    guest.run("cd /src && ./install.sh --uninstall")
    guest.put_bytes(DEB, build(tmp_path).read_bytes())
    yield guest
    guest.run(f"dpkg --purge vfio-hooks; rm -rf {HOOKS}/qemu* {DEB} /tmp/foreign.log", check=False)


def event(guest: Guest, op: str, name: str = "qemu") -> None:
    guest.run(f"{HOOKS}/{name} install-test {op} -", input=PASSING)


def driver(guest: Guest) -> str:
    return guest.run(f"basename $(readlink /sys/bus/pci/devices/{NIC}/driver)").stdout.strip()


@pytest.mark.matrix_only
def test_a_package_s_life(host: Guest) -> None:
    host.put(f"{HOOKS}/qemu", FOREIGN, "0755")
    host.run(INSTALL)
    assert host.run("vfio-hooks --version").stdout.startswith("vfio-hooks ")
    host.put(f"{HOOKS}/qemu.d/install-test/vm.toml", "[pci]\n")
    event(host, "prepare begin")
    assert driver(host) == "vfio-pci"
    # The hook of the user's own was run as well.
    assert "install-test prepare begin" in host.read("/tmp/foreign.log")

    refused = host.run("dpkg --remove vfio-hooks 2>&1", check=False)
    assert refused.returncode != 0
    assert "vfio-hooks undo 'install-test'" in refused.stdout
    assert driver(host) == "vfio-pci"

    # An upgrade meanwhile. In its middle the hook uses a copy of the version before.
    host.run("sh /var/lib/dpkg/info/vfio-hooks.prerm upgrade 99")
    assert ".previous" in host.read(f"{HOOKS}/qemu")
    host.run("/usr/bin/python3 -I " + f"{HOOKS}/qemu other prepare begin -", input=PASSING)
    host.run(INSTALL)
    assert ".previous" not in host.read(f"{HOOKS}/qemu")
    event(host, "release end")
    assert driver(host) == DRIVERS[NIC]

    host.run(f"rm -r {HOOKS}/qemu.d/install-test; dpkg --purge vfio-hooks")
    assert host.run(LEFT).stdout.split() == [f"{HOOKS}/qemu"]
    assert host.read(f"{HOOKS}/qemu") == FOREIGN
