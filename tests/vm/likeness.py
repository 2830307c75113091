"""Carries out a likeness of somebody's host: boots it, brings it into the host's state, and
rehearses the VM in it. `vfio-hooks rehearse --host` calls this; see vfio_hooks/rehearse/likeness.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.vm import build, machine
from tests.vm.guest import Guest
from tests.vm.hardware import Hardware, Topology
from tests.vm.process import VmError
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host.pci import is_vfios
from vfio_hooks.rehearse.likeness import Likeness
from vfio_hooks.rehearse.likeness.functions import VFS
from vfio_hooks.rehearse.likeness.slots import Placed

SUITE = "trixie"
HOOKS = "/etc/libvirt/hooks"
_MEMORY = 4096
_NODE = 1024
"""MiB: of all nodes together, and of one at least."""
# What other programs of a host do all the while: they open sound cards and graphics cards for a
# moment, ask each function for its state as nvidia-smi does, make udev look at some devices again,
# and read what the hooks write. Each rests four times as long as it took, or on a busy machine an
# emulated host would do little else.
_POLLERS = """\
again() {
    while began=${EPOCHREALTIME/[.,]/}; do
        "$1"
        echo "$1" >> /run/pollers.log
        sleep "$((4 * (${EPOCHREALTIME/[.,]/} - began) + 200000))e-6"
    done
}
opened() { for node in /dev/snd/*C* /dev/dri/card*; do sleep 0.05 < $node; done; }
asked() { cat /sys/bus/pci/devices/*/{config,power_state,driver_override,current_link_speed}; }
renewed() {
    few=$(shuf --head-count=3 --echo /sys/bus/pci/devices/* /sys/class/{sound,drm,net}/*)
    udevadm trigger --action=change --settle $few
}
watched() { cat /proc/interrupts /proc/irq/*/smp_affinity_list /sys/kernel/irq/*/actions; }
exec > /dev/null 2>&1
again asked & again renewed & again watched & again opened
"""
_POLLED = {
    "opened": "sound and graphics cards were opened",
    "asked": "PCI functions were asked for their state",
    "renewed": "udev was triggered",
    "watched": "interrupts were read",
}
# A driver that comes back has its interrupts on the CPUs of the device's node, and so are they to
# be before.
_NEAR = """\
for device in *; do
    for irq in $(ls $device/msi_irqs 2> /dev/null); do
        cat $device/local_cpulist > /proc/irq/$irq/smp_affinity_list || true
    done
done 2> /dev/null"""


@contextmanager
def booted(plan: Likeness, tell: Callable[[str], None]) -> Iterator[Guest]:
    """The likeness, running, with this vfio-hooks and in the state of the host."""
    tell("the emulated host is booted; the first time, its system is made, which takes minutes")
    running = machine.boot(
        build.image(SUITE), f"likeness-{os.getpid()}", wanted=hardware(plan), attempts=3
    )
    try:
        guest = Guest(running)
        guest.calm()
        guest.install()
        guest.run(state(plan))
        yield guest
    finally:
        running.stop()


def hardware(plan: Likeness) -> Hardware:
    """What the likeness is made of."""
    cpus = plan.processors
    nodes = cpus.sockets * cpus.nodes_per_socket
    return Hardware(
        Topology(cpus.sockets, cpus.cores, cpus.threads, cpus.nodes_per_socket),
        node_memory=max(_NODE, _MEMORY // nodes),
        kernel_arguments=plan.kernel,
        devices=plan.words,
    )


def state(plan: Likeness) -> str:
    """A shell script: names of interfaces, VFs, and functions that vfio-pci or nobody has."""
    lines = ["set -eu", "cd /sys/bus/pci/devices", "modprobe vfio-pci", "udevadm settle"]
    for one in plan.placed:
        lines += _state(one, one.wanted.function.driver)
    return "\n".join([*lines, _NEAR])


def _state(one: Placed, driver: str | None) -> Iterator[str]:
    address = one.address
    yield f"[ -e {address} ] || {{ echo '{address} is not there' >&2; exit 1; }}"
    if one.wanted.interface:
        name = shlex.quote(one.wanted.interface)
        yield f"for old in $(ls {address}/net); do ip link set $old down name {name}; done"
    if one.wanted.vfs:
        yield f"echo {min(one.wanted.vfs, VFS)} > {address}/sriov_numvfs"
    if driver is None or is_vfios(driver):
        yield f"[ ! -e {address}/driver ] || echo {address} > {address}/driver/unbind"
    if is_vfios(driver):
        yield f"echo vfio-pci > {address}/driver_override"
        yield f"echo {address} > ../drivers_probe"


def rehearse(
    plan: Likeness, files: Mapping[str, str], rounds: int, tell: Callable[[str], None]
) -> list[str]:
    """Rehearse the VM so many times, with the files of the hooks' folder by their names in it.
    Returns the lines of the report, or the one of what went wrong before it. Raises HookError where
    there is no emulated host."""
    try:
        with booted(plan, tell) as guest:
            return _rehearsed(guest, plan, files, rounds, tell)
    except VmError as error:
        raise HookError(f"the emulated host: {error}") from None


def _rehearsed(
    guest: Guest,
    plan: Likeness,
    files: Mapping[str, str],
    rounds: int,
    tell: Callable[[str], None],
) -> list[str]:
    name = parse(plan.xml).name
    for file, text in files.items():
        mode = "0755" if text.startswith("#!") else "0644"
        guest.put(f"{HOOKS}/{file}", text, mode)
    guest.define(plan.xml.decode())
    guest.put("/run/pollers", _POLLERS)
    guest.start_unit("pollers", "bash /run/pollers")
    tell(f"{name} is rehearsed there, while other programs use the devices")
    line = f"vfio-hooks rehearse {shlex.quote(name)} --yes --rounds {rounds}"
    done = guest.run(line, check=False, timeout=600 + 300 * rounds)
    tell(f"meanwhile, {_told(guest.run('cat /run/pollers.log', check=False).stdout.split())}")
    return (done.stdout + done.stderr).splitlines()


def _told(pollers: Sequence[str]) -> str:
    """How often each of the pollers has come round."""
    counts = {what: pollers.count(name) for name, what in _POLLED.items()}
    return ", ".join(f"{what} {count} times" for what, count in counts.items())
