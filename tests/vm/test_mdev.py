"""The mdev plugin with mtty, the kernel's sample driver: serial ports that are made for a VM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm import modules
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.lending import managed_vm
from tests.vm.process import VmError
from tests.vm.release import TESTING

pytestmark = pytest.mark.matrix_only

BUILD = """\
set -eu
cd /usr/src
source=$(basename linux-source-*.tar.xz .tar.xz)
tar -xf $source.tar.xz $source/samples/vfio-mdev
make -C linux-headers-$1 M=$PWD/$source/samples/vfio-mdev CONFIG_SAMPLE_VFIO_MDEV_MTTY=m modules
mkdir /built
strip --strip-debug $source/samples/vfio-mdev/mtty.ko
mv $source/samples/vfio-mdev/mtty.ko /built
"""
MODULE = "/run/mtty.ko"
UUID, OTHER = "9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71", "0e1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d72"
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{}'/>"
    "</source></hostdev>"
)
TYPES = "/sys/class/mdev_bus/mtty/mdev_supported_types"
THERE = (
    "cd /sys/bus/mdev/devices && for one in *; do [ ! -e $one ] ||"
    " echo $one $(basename $(readlink $one/mdev_type)); done"
)
CHILD = f"/sys/class/mdev_bus/mtty/{UUID}/mdev_type"
ROOM = f"cat {TYPES}/mtty-2/available_instances"


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    """A host whose kernel has mtty."""
    try:
        built = modules.provide(f"mtty-{hooked.release}", hooked.release, BUILD)
    except VmError as error:
        if hooked.release != TESTING:
            raise
        pytest.skip(f"{TESTING} moves, and its kernel's source cannot be had today: {error}")
    hooked.put_bytes(MODULE, (built / "mtty.ko").read_bytes())
    hooked.run(f"modprobe --all vfio mdev && insmod {MODULE}")
    try:
        yield hooked
    finally:
        hooked.run(f"rmmod mtty mdev; rm {MODULE}")


def there(guest: Guest) -> dict[str, str]:
    """The types of the mediated devices that there are."""
    return dict(line.split() for line in guest.run(THERE).stdout.splitlines())


def test_the_life_of_a_mediated_device(host: Guest) -> None:
    domain = Domain("serial", extra_devices=HOSTDEV.format(UUID))
    room = host.run(ROOM).stdout
    with managed_vm(host, domain, '[[mdev]]\ntype = "mtty-2"\n'):
        plan = host.run(f"vfio-hooks plan {domain.name}").stdout
        assert f"/sys/bus/mdev/devices/{UUID}: not there → mtty-2" in plan
        assert there(host) == {}
        assert host.run(f"readlink {CHILD}", check=False).stdout == ""
        for end in ("virsh destroy serial", "kill -9 $(cat /run/libvirt/qemu/serial.pid)"):
            host.start(domain.name)
            assert there(host) == {UUID: "mtty-2"}
            assert host.run(f"basename $(readlink {CHILD})").stdout == "mtty-2\n"
            assert f"{UUID}: not there → mtty-2" in host.run("vfio-hooks status").stdout
            host.run(end)
            host.wait("! ls /run/vfio-hooks/*.journal")
            assert there(host) == {}
            assert host.run(ROOM).stdout == room


def test_one_that_exists_and_one_that_cannot_be(host: Guest) -> None:
    domain = Domain("serial", extra_devices=HOSTDEV.format(UUID) + HOSTDEV.format(OTHER))
    tables = f"[[mdev]]\nuuid = '{UUID}'\ntype = 'mtty-1'\n"
    with managed_vm(host, domain, f"{tables}[[mdev]]\nuuid = '{OTHER}'\ntype = 'mtty-2'\n"):
        host.start(domain.name)
        assert there(host) == {UUID: "mtty-1", OTHER: "mtty-2"}
        host.destroy(domain.name)
        assert there(host) == {}
    host.run(f"echo {UUID} > {TYPES}/mtty-1/create")
    toml = f'[[mdev]]\ntype = "mtty-2"\nuuid = "{OTHER}"\n'
    try:
        with managed_vm(host, domain, f"{toml}[[mdev]]\nuuid = '{UUID}'\ntype = 'mtty-1'\n"):
            host.start(domain.name)
            assert there(host) == {UUID: "mtty-1", OTHER: "mtty-2"}
            host.destroy(domain.name)
            assert there(host) == {UUID: "mtty-1"}
        with managed_vm(host, domain, f"[[mdev]]\nuuid = '{UUID}'\ntype = 'mtty-2'\n"):
            refused = host.start(domain.name, check=False).stderr
            assert f"{UUID} exists already, and is mtty-1 and not mtty-2" in refused
        with managed_vm(host, domain, f"[[mdev]]\nuuid = '{OTHER}'\ntype = 'mtty-3'\n"):
            refused = host.start(domain.name, check=False).stderr
            assert "mtty-3 is no type of any device of this host; did you mean mtty-" in refused
        assert there(host) == {UUID: "mtty-1"}
    finally:
        host.run(f"echo 1 > /sys/bus/mdev/devices/{UUID}/remove")
