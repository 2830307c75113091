"""VMs that vfio-hooks looks after, and which drivers have the functions that they are lent."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from tests.vm.direct import Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import DRIVERS

HOOKS = "/etc/libvirt/hooks/qemu.d"
# Bound after the functions before it, then refused by the kernel.
REFUSED = """
from vfio_hooks.knobs import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

def plan(event, domain, options, host):
    if event.op == "prepare":
        yield Step("late", File("/proc/sys/vm/swappiness"), Override("99999"))
"""


def given(*addresses: str, managed: bool = True) -> tuple[HostDevice, ...]:
    return tuple(HostDevice(address, managed) for address in addresses)


@contextlib.contextmanager
def managed_vm(
    guest: Guest, domain: Domain, toml: str = "[pci]\n", **files: str
) -> Iterator[Domain]:
    """A domain that vfio-hooks looks after, gone again afterwards."""
    folder = f"{HOOKS}/{domain.name}"
    guest.put(f"{folder}/vm.toml", toml)
    for name, text in files.items():
        guest.put(f"{folder}/{name}.py", text)
    guest.define(domain)
    try:
        yield domain
    finally:
        guest.remove(domain.name)
        guest.run(f"rm -rf {shlex.quote(folder)}")


def drivers(guest: Guest, *addresses: str) -> dict[str, str]:
    script = "; ".join(
        f"basename $(readlink /sys/bus/pci/devices/{address}/driver || echo none)"
        for address in addresses
    )
    return dict(zip(addresses, guest.run(script).stdout.split(), strict=True))


def lent(*addresses: str) -> dict[str, str]:
    return dict.fromkeys(addresses, "vfio-pci")


def at_home(*addresses: str) -> dict[str, str]:
    return {address: DRIVERS[address] for address in addresses}


@contextlib.contextmanager
def undone_while_it_runs(direct: Direct, other: Domain, address: str) -> Iterator[str]:
    """A VM that was never released is undone while another one runs with its function: that is
    refused, with these words, until the other one has ended."""
    guest = direct.guest
    direct.manage(Domain("first", given(address)), "[pci]\n")
    guest.define(other)
    try:
        assert direct.start("first") == ""
        guest.start(other.name)
        refused = guest.run("vfio-hooks undo first", check=False)
        assert refused.returncode == 1
        assert f"{address}: a running guest has it: qemu-system-x86 (pid " in refused.stderr
        yield refused.stderr
        assert drivers(guest, address) == lent(address)
        guest.destroy(other.name)
        guest.run("vfio-hooks undo first")
        assert drivers(guest, address) == at_home(address)
    finally:
        guest.remove(other.name)


@contextlib.contextmanager
def held_open(guest: Guest, node: str, options: str = "") -> Iterator[None]:
    """Somebody has a device node open until the block ends."""
    guest.start_unit("holder", f"sh -c 'exec sleep infinity <{node}'", options)
    guest.wait(f"fuser --silent {node}")
    try:
        yield
    finally:
        guest.run("systemctl stop holder", check=False)
