"""The demo: a VM gets a GPU and a NIC of an emulated host, and the host gets them back.

`./install.sh --demo` runs it. Everything it shows is done for real, by libvirt and the kernel
of the emulated host; on this machine only packages and the cache of tests/vm change.
"""

from __future__ import annotations

import shutil
import signal
import sys
import textwrap
import time

from tests.vm import build, machine
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP, NIC
from tests.vm.process import VmError
from vfio_hooks.rehearse.compared import difference
from vfio_hooks.rehearse.observed import State

VM = "win11"
DEVICES = (
    *(HostDevice(address) for address in GPU_GROUP),
    HostDevice(NIC, managed=False),
)
MACHINE = "demo"
SUITE = "trixie"


def main() -> int:
    """Show it; 0 only if everything worked and the host is as it was."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    began = time.monotonic()
    try:
        equal = _show()
    except VmError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{_minutes(time.monotonic() - began)} in all.")
    return 0 if equal else 1


def _show() -> bool:
    _heading("An emulated host: Debian 13, an IOMMU, a GPU of three functions, a NIC")
    stale = machine.find(MACHINE)
    if stale is not None:
        stale.stop()
    image = build.image(SUITE)
    began = time.monotonic()
    host = machine.boot(image, MACHINE)
    try:
        print(f"booted in {time.monotonic() - began:.0f} s")
        return _in_the_host(Guest(host))
    finally:
        host.stop()


def _in_the_host(host: Guest) -> bool:
    host.calm()
    _heading("vfio-hooks is installed in it")
    _command(host, "/src/install.sh")
    _heading(f"{VM} is to have the whole GPU, and a NIC that libvirt does not manage")
    host.define(Domain(VM, DEVICES))
    _command(host, "lspci -D | grep -E '^0000:0(4|5):'")
    folder = f"/etc/libvirt/hooks/qemu.d/{VM}"
    _command(host, f"mkdir {folder}; echo '[pci]' > {folder}/vm.toml")
    _command(host, f"vfio-hooks validate {VM}")
    _heading("What would be changed at its start")
    _command(host, f"vfio-hooks plan {VM}")
    before, snapshot = _drivers(host), host.snapshot()
    _heading("It runs")
    _command(host, f"virsh start {VM}")
    during = _drivers(host)
    _command(host, "vfio-hooks status")
    _heading("It ends")
    _command(host, f"virsh destroy {VM}")
    _command(host, "vfio-hooks status")
    _heading("The host's drivers")
    _table(before, during, _drivers(host))
    if set(during.values()) != {"vfio-pci"}:
        raise VmError(f"{VM} ran without all of its devices")
    return _same(snapshot, host.snapshot())


def _drivers(host: Guest) -> dict[str, str]:
    """The driver of each function that the VM has."""
    links = " ".join(f"/sys/bus/pci/devices/{device.address}/driver" for device in DEVICES)
    told = host.run(f"for link in {links}; do basename $(readlink $link || echo -); done").stdout
    return dict(zip((device.address for device in DEVICES), told.split(), strict=True))


def _table(*moments: dict[str, str]) -> None:
    row = "  {:14}" + "{:16}" * len(moments)
    print(row.format("", "before", "while it ran", "after").rstrip())
    for address in moments[0]:
        print(row.format(address, *(moment[address] for moment in moments)).rstrip())


def _same(before: State, after: State) -> bool:
    """Compare two states of the host, and tell what came out."""
    # The empty lock file that any event makes, and that stays.
    changes = [line for line in difference(before, after) if "/run/vfio-hooks/lock" not in line]
    if changes:
        print("\nThe host is NOT as it was:")
        print(textwrap.indent("\n".join(changes), "  "))
    else:
        print(f"\nThe host is as it was: all {len(before)} values compared are equal.")
    return not changes


def _command(host: Guest, line: str) -> None:
    """Run a command in the host as a user would: shown, with what it prints and how long it takes.

    Raises VmError when it fails.
    """
    print(f"$ {line}", flush=True)
    began = time.monotonic()
    done = host.run(line, check=False, timeout=300)
    told = (done.stdout + done.stderr).strip("\n")
    if told:
        print(textwrap.indent(told, "  "))
    if done.returncode:
        raise VmError(f"`{line}` ended with exit code {done.returncode}")
    print(f"  ({time.monotonic() - began:.1f} s)", flush=True)


def _heading(text: str) -> None:
    print(f"\n== {text} {'=' * max(0, min(100, _width()) - len(text) - 4)}", flush=True)


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _interrupted(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
