"""Random rounds of three VMs that want the same things, which leave nothing on the host.

Two have real PCI functions. What a round does is told by its number and is the same each time, but
for the moment at which a SIGKILL hits what it is for. VFIO_HOOKS_SEEDS="17,40-59" runs those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from tests.effort import effort
from tests.vm import firmware
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP, NIC, NVME
from tests.vm.lives import Lives
from vfio_hooks.host.cpulist import parse_list

SEEDS = os.environ.get("VFIO_HOOKS_SEEDS")
TOML = """\
{devices}[cpus]
[irqs]
[hugepages]
[memory]
swappiness = {swappiness}
[governor]
governor = "{governor}"
"""
FUNCTIONS = {"one": GPU_GROUP, "two": (NIC,), "three": ()}
PINS = {"one": ("4", "5"), "two": ("5", "6"), "three": ("6",)}
GOVERNORS = {"one": "performance", "two": "powersave", "three": "performance"}


def seeds(usual: int, thorough: int) -> list[int]:
    # Each of these has passed on every release.
    first = 3
    return sorted(parse_list(SEEDS)) if SEEDS else [*range(first, first + effort(usual, thorough))]


def domain(name: str, managed: bool) -> Domain:
    ports = "<controller type='pci' index='{}' model='pcie-root-port'/>"
    root = "<controller type='pci' index='0' model='pcie-root'/>"
    return Domain(
        name,
        tuple(HostDevice(address, managed) for address in FUNCTIONS[name]),
        memory=32,
        vcpus=len(PINS[name]),
        pins=dict(enumerate(PINS[name])),
        hugepages=2048,
        # One more than it has devices, for one that is plugged in.
        extra_devices=root + "".join(map(ports.format, range(1, len(FUNCTIONS[name]) + 2))),
        firmware=firmware.PATH,
    )


def toml(name: str) -> str:
    devices = "[pci]\n" if FUNCTIONS[name] else ""
    return TOML.format(devices=devices, swappiness=len(name), governor=GOVERNORS[name])


@pytest.fixture
def home(hooked: Guest) -> Iterator[Guest]:
    """A guest in which the VMs can be."""
    yield hooked
    for name in FUNCTIONS:
        hooked.run(f"virsh -q destroy {name}; virsh -q undefine {name}", check=False)
    hooked.run(f"rm -rf {HOOKS}/qemu.d/* {firmware.PATH} {Lives.DEVICE} {Lives.SAVED}")


@pytest.mark.every_release
@pytest.mark.parametrize("seed", seeds(1, 20))
def test_real_ones(seed: int, home: Guest) -> None:
    """Started, restarted, shut down, killed, saved; with a device that comes and goes."""
    random = Random(f"real {seed}")
    home.put_bytes(firmware.PATH, firmware.rom())
    home.put(Lives.DEVICE, HostDevice(NVME[0]).xml())
    for name in FUNCTIONS:
        home.put(f"{HOOKS}/qemu.d/{name}/vm.toml", toml(name))
        home.define(domain(name, random.random() < 0.7))
    lives = Lives(home, random, tuple(FUNCTIONS))
    for _ in range(5):
        lives.go_on()
    lives.end()


@pytest.mark.every_release
@pytest.mark.parametrize("seed", seeds(1, 100))
def test_events(seed: int, home: Guest) -> None:
    """The hook as libvirt calls it, for VMs that need not run, and is killed at any time."""
    random, direct, running = Random(f"events {seed}"), Direct(home), set[str]()
    for name in FUNCTIONS:
        direct.manage(domain(name, random.random() < 0.3), toml(name))
    for _ in range(6):
        name = random.choice([*FUNCTIONS])
        is_stop, is_cut_off = name in running, random.random() < 0.4
        event = random.choice(("stopped end", "release end")) if is_stop else "prepare begin"
        moment = random.uniform(0, 3)
        print(name, event, moment if is_cut_off else "")
        if is_cut_off:
            direct.cut_off(name, event, moment)
        if is_stop or is_cut_off:
            direct.stop(name)
            running.discard(name)
        else:
            assert direct.start(name) == ""
            running.add(name)
    direct.forget()
