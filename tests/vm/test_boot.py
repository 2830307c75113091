"""`boot apply` and `revert`, on a host that its own GRUB boots, each time anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import build, debs, machine, saved
from tests.vm.guest import Guest
from tests.vm.hardware import BASE, REST
from tests.vm.machine import Machine
from tests.vm.process import poll

pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]

PACKAGES = ("grub-common", "grub2-common", "grub-pc-bin", "libefivar1t64", "libefiboot1t64")
# The disk is one file system, without a table of partitions. The initial RAM disk has no udev that
# would find it by its UUID.
GRUB = f"""\
GRUB_DEFAULT=saved
GRUB_TIMEOUT=0
GRUB_TERMINAL=console
GRUB_DISABLE_LINUX_UUID=true
GRUB_CMDLINE_LINUX="{BASE} {REST}"
"""
INSTALL = "grub-install --target=i386-pc --force /dev/vda && update-grub"
FILES = """\
mkdir -p /var/lib/vfio-hooks
find /etc/default /etc/grub.d /etc/modprobe.d /etc/kernel /boot /var/lib/vfio-hooks -type f \
    ! -name grubenv -printf '%m %u %p ' -exec sha256sum {} ';'
"""
# Debian's kernel has the IOMMU on without being told, and translates every device's addresses.
TYPES = "cat /sys/kernel/iommu_groups/*/type | sort -u"
FALLBACK = "vfio-hooks-before"


class Host:
    """A guest that boots from its own disk, and keeps what is written."""

    def __init__(self, running: Machine, disk: Path) -> None:
        self.machine = running
        self.disk = disk

    def run(self, line: str) -> str:
        return Guest(self.machine).run(line).stdout

    def line(self) -> list[str]:
        return self.run("cat /proc/cmdline").split()

    def files(self) -> list[str]:
        return sorted(self.run(FILES).splitlines())

    def off(self) -> None:
        self.machine.ssh.run("systemctl poweroff", timeout=60)
        poll(lambda: not self.machine.alive(), "power-off", deadline=300)
        self.machine.stop()

    def on(self) -> None:
        """From the disk, as a PC starts."""
        image = build.image(self.machine.suite)
        self.machine = machine.start(
            image, self.machine.name, keep_writes=True, disk=self.disk, has_loader=True
        )
        self.machine.wait_ready()

    def reboot(self) -> None:
        self.off()
        self.on()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """GRUB's, which the image does not have."""
    return debs.fetch("trixie", PACKAGES, tmp_path_factory.mktemp("debs"))


@pytest.fixture
def host(tmp_path: Path, packages: list[Path]) -> Iterator[Host]:
    disk = tmp_path / "disk.qcow2"
    found = Host(saved.resume("trixie", f"boot-{os.getpid()}", disk=disk), disk)
    try:
        guest = Guest(found.machine)
        debs.install(guest, packages)
        guest.put("/etc/default/grub", GRUB)
        guest.run(INSTALL)
        found.reboot()
        yield found
    finally:
        found.machine.stop()


def test_parameters_come_with_a_reboot_and_go_with_another(host: Host) -> None:
    before, line = host.files(), host.line()
    assert "iommu=pt" not in line
    assert "identity" not in host.run(TYPES)

    print(host.run("vfio-hooks boot apply --add vfio_hooks.test=1 --yes"))
    assert host.files() != before
    host.reboot()
    assert host.line() == [*line, "iommu=pt", "vfio_hooks.test=1"]
    assert "identity" in host.run(TYPES)
    assert "is written already, for the host" in host.run("vfio-hooks boot show")

    # The entry with the parameters that there were before, for once.
    host.run(f"grub-reboot {FALLBACK}")
    host.reboot()
    assert host.line() == line

    print(host.run("vfio-hooks boot revert"))
    assert host.files() == before
    host.reboot()
    assert host.line() == line
    assert host.files() == before
