"""The desktop on the boot display: a display manager that holds it, and the way there and back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU
from tests.vm.lending import REFUSED, drivers, managed_vm

# What a display manager is to the kernel: it has the card open as long as it runs.
MANAGER = f"""\
[Service]
ExecStart=/usr/bin/python3 -c "import glob, signal; \\
 name, = glob.glob('/sys/bus/pci/devices/{BOOT_VGA}/drm/card*'); \\
 card = open('/dev/dri/' + name.rpartition('/')[2]); signal.pause()"
"""
UNITS = "/etc/systemd/system"
CONSOLE = "grep -h . $(grep -l 'frame buffer' /sys/class/vtconsole/*/name | sed s/name/bind/)"
# The frame buffer of the boot display, and whether anything is to be seen on it.
PICTURE = (
    f"head -c 4M /dev/$(ls /sys/bus/pci/devices/{BOOT_VGA}/graphics) | tr -d '\\0' | head -c 1"
)


@pytest.fixture
def desktop(hooked: Guest) -> Iterator[Direct]:
    hooked.put(f"{UNITS}/stand-in.service", MANAGER)
    hooked.run(
        f"ln -s stand-in.service {UNITS}/display-manager.service"
        " && systemctl daemon-reload && systemctl start display-manager"
    )
    hooked.wait(f"fuser --silent {card(hooked)}")
    yield Direct(hooked)
    Direct(hooked).forget()
    hooked.run(
        f"systemctl stop stand-in; rm {UNITS}/stand-in.service {UNITS}/display-manager.service;"
        " systemctl daemon-reload"
    )


def card(guest: Guest) -> str:
    return (
        "/dev/dri/"
        + guest.run(f"basename /sys/bus/pci/devices/{BOOT_VGA}/drm/card*").stdout.strip()
    )


def a_vm(managed: bool = False) -> Domain:
    return Domain("gaming", (HostDevice(BOOT_VGA, managed),))


def is_away(guest: Guest) -> None:
    assert guest.run("systemctl is-active stand-in", check=False).stdout == "inactive\n"
    assert drivers(guest, BOOT_VGA) == {BOOT_VGA: "vfio-pci"}
    assert guest.run(f"ls /sys/bus/pci/devices/{BOOT_VGA}/graphics", check=False).returncode
    assert "1" not in guest.run(CONSOLE, check=False).stdout


def is_back(guest: Guest) -> None:
    assert drivers(guest, BOOT_VGA) == {BOOT_VGA: "bochs-drm"}
    assert guest.run("systemctl is-active stand-in").stdout == "active\n"
    assert guest.run(CONSOLE).stdout == "1\n"
    assert guest.run(PICTURE).stdout
    guest.wait(f"fuser --silent {card(guest)}")


def order(guest: Guest, *patterns: str) -> None:
    """The patterns are in this order in what the hook told last."""
    log = guest.log()
    places = [[found.start() for found in re.finditer(pattern, log)][-1] for pattern in patterns]
    assert places == sorted(places), log


def test_there_and_back(desktop: Direct) -> None:
    """On other releases test_a_stack_of_modules takes the same way."""
    desktop.manage(a_vm(), "[session]\n[pci]\n")
    assert desktop.start("gaming") == ""
    is_away(desktop.guest)
    desktop.stop("gaming")
    is_back(desktop.guest)
    order(
        desktop.guest,
        "stand-in.service: active → inactive",
        f"{BOOT_VGA}/driver: bochs-drm → vfio-pci",
        f"{BOOT_VGA}/driver: vfio-pci .* → bochs-drm",
        "stand-in.service: inactive → active",
    )


@pytest.mark.every_release
def test_a_stack_of_modules(desktop: Direct) -> None:
    """bochs stands on another module, and has a card more than the VM is given."""
    guest = desktop.guest
    helper = "drm_shmem_helper" if guest.release == "forky" else "drm_vram_helper"
    desktop.manage(a_vm(), f'[session]\nmodules = ["{helper}"]\n[pci]\n')
    assert desktop.start("gaming") == ""
    is_away(guest)
    assert drivers(guest, GPU) == {GPU: "none"}
    assert not guest.run(f"lsmod | grep -e bochs -e {helper}", check=False).stdout
    desktop.stop("gaming")
    is_back(guest)
    order(
        guest,
        "console on the framebuffer: bound → unbound",
        "/sys/module/bochs: loaded → not loaded",
        f"/sys/module/{helper}: loaded → not loaded",
        f"/sys/module/{helper}: not loaded → loaded",
        "/sys/module/bochs: not loaded → loaded",
        "stand-in.service: inactive → active",
    )


def hold(guest: Guest, slice_: str) -> None:
    """A program that does not end when it is asked to."""
    script = f"trap '' TERM; exec 3<{card(guest)}; while :; do sleep 1 3<&-; done"
    options = f"--slice={slice_} --property=TimeoutStopSec=1"
    guest.start_unit("holder", f'bash -c "{script}"', options)
    guest.wait(f"[ $(fuser {card(guest)} 2>/dev/null | wc -w) -ge 2 ]")


@pytest.mark.matrix_only
def test_a_service_that_does_not_let_go(desktop: Direct) -> None:
    guest = desktop.guest
    hold(guest, "system.slice")
    node, pid = card(guest), guest.run("systemctl show --value -p MainPID holder").stdout
    desktop.manage(a_vm(), "[session]\ntimeout = 2\n[pci]\n")
    said = desktop.start("gaming")
    assert f"{BOOT_VGA}: still in use after 2 s: bash (pid {pid.strip()}) has {node} open" in said
    is_back(guest)
    guest.run("systemctl kill --signal=KILL holder")


@pytest.mark.matrix_only
def test_a_program_of_a_session_that_does_not_let_go(desktop: Direct) -> None:
    hold(desktop.guest, "user.slice")
    desktop.manage(a_vm(), '[session]\ntimeout = 12\nleftovers = "end"\n[pci]\n')
    assert desktop.start("gaming") == ""
    is_away(desktop.guest)
    desktop.stop("gaming")
    is_back(desktop.guest)


@pytest.mark.matrix_only
def test_a_failure_after_all_of_it_brings_the_desktop_back(desktop: Direct) -> None:
    desktop.manage(a_vm(), '[session]\nmodules = ["bochs"]\n[pci]\n')
    desktop.guest.put(f"{HOOKS}/qemu.d/gaming/late.py", REFUSED)
    assert "/proc/sys/vm/swappiness: cannot write '99999'" in desktop.start("gaming")
    is_back(desktop.guest)
    assert drivers(desktop.guest, GPU) == {GPU: "bochs-drm"}


def test_a_vm_that_is_started_from_the_desktop(desktop: Direct) -> None:
    """libvirt finishes the start, though virsh ends with the desktop."""
    guest = desktop.guest
    with managed_vm(guest, a_vm(managed=True), "[session]\n[gpu]\n[pci]\n"):
        guest.start_unit("terminal", "virsh start gaming", "-p PartOf=stand-in.service")
        guest.wait("virsh domstate gaming | grep -q running")
        log = guest.run("journalctl --sync; journalctl -u terminal --boot -o cat").stdout
        assert "started" not in log.replace("Started", "")
        is_away(guest)
        guest.destroy("gaming")
        is_back(guest)


def test_a_platform_device_s_driver(hooked: Guest) -> None:
    """As a firmware's framebuffer is taken off and put back; this is a sound card that is none."""
    script = """
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs import PlatformDriver
host, knob = WritableHost(), PlatformDriver("snd_dummy.0")
print(knob.read(host))
for value in ("no driver", "snd_dummy"):
    knob.write(host, value)
    print(knob.read(host))
"""
    hooked.run("modprobe snd_dummy")
    told = hooked.run("cd /src && python3 -B -", input=script).stdout
    hooked.run("modprobe -r snd_dummy")
    assert told.splitlines() == ["snd_dummy", "no driver", "snd_dummy"]
