"""[governor]'s power_profile with the real power-profiles-daemon, whose driver is its own fake, and
with the real tuned-ppd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.power_profiles import TALK, TUNED_TALK
from tests.vm import debs
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.lending import managed_vm
from vfio_hooks.host.power_profiles import NAMES

pytestmark = pytest.mark.matrix_only

PPD, TUNED = "power-profiles-daemon", "tuned-ppd"
PACKAGES = {
    PPD: (PPD, "libupower-glib3"),
    TUNED: (
        *("tuned", TUNED, "virt-what", "ethtool"),
        *("python3-dbus", "python3-gi", "python3-linux-procfs", "python3-pyudev"),
        *("python3-pyinotify", "python3-pyasyncore", "gir1.2-glib-2.0"),
    ),
}
# What python3-gi needs.
BINDINGS = {
    "trixie": ("gir1.2-girepository-2.0", "libgirepository-1.0-1"),
    "forky": ("gir1.2-girepository-3.0", "libgirepository-2.0-0"),
}
DROP_IN = f"/run/systemd/system/{PPD}.service.d/fake.conf"
# The driver ends with its standard input.
FAKE = """\
[Service]
Environment=POWER_PROFILE_DAEMON_FAKE_DRIVER=1
ExecStart=
ExecStart=/bin/sh -c 'sleep infinity | /usr/libexec/power-profiles-daemon'
"""
ASK = """\
busctl get-property {0} /{1} {0} ActiveProfile | tr -d '"' | cut -d' ' -f2
busctl get-property {0} /{1} {0} ActiveProfileHolds | cut -d' ' -f2
cat /sys/devices/system/cpu/cpu4/power/pm_qos_resume_latency_us
"""
TALKING = """\
import json, subprocess, sys
sys.path.insert(0, "/src")
from tests.fakes.power_profiles import talk
from vfio_hooks.services.bus import Bus
name, unit = sys.argv[1:]
place = [name, "/" + name.replace(".", "/"), name, "ActiveProfile"]
def profile():
    done = subprocess.run(["busctl", "get-property", *place], capture_output=True, text=True)
    return done.stdout.strip()[3:-1]
def choose(wanted):
    subprocess.run(["busctl", "set-property", *place, "s", wanted], check=True)
def restart():
    subprocess.run(["systemctl", "restart", unit], check=True)
print(json.dumps(talk(name, Bus, profile, choose, restart)))
choose("balanced")
"""
# tuned has a swappiness of its own for this profile.
TOML = """\
[governor]
power_profile = "performance"
max_exit_latency = 20
[memory]
swappiness = 1
"""
HELD, FREE = ["performance", "1", "20"], ["balanced", "0", "0"]
CHOSEN = ["power-saver", *FREE[1:]]
UNIT = "$(systemctl list-units --plain --no-legend 'vfio-hooks-profile-*' | cut -d' ' -f1)"
KILL_SERVICE = f"systemctl kill --signal=SIGKILL {UNIT}"
KILL_AND_WAIT = (
    f"before=$(systemctl show -P MainPID {UNIT}); {KILL_SERVICE};"
    f" until [ $(systemctl show -P MainPID {UNIT}) != $before ]; do sleep 0.1; done"
)
KILL_QEMU = "kill -9 $(cat /run/libvirt/qemu/quick.pid)"


@dataclass(frozen=True)
class Daemon:
    """Its unit, and its name on the bus."""

    unit: str
    name: str


@pytest.fixture(params=[PPD, TUNED])
def daemon(hooked: Guest, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """One after the other; Debian 12 has no tuned-ppd, and its other one knows the older name
    alone."""
    unit: str = request.param
    if hooked.release == "bookworm" and unit == TUNED:
        pytest.skip("Debian 12 has no tuned-ppd")
    packages = (*PACKAGES[unit], *(BINDINGS[hooked.release] if unit == TUNED else ()))
    hooked.put(DROP_IN, FAKE)
    hooked.run("systemctl daemon-reload")
    debs.install(hooked, debs.fetch(hooked.release, packages, tmp_path))
    try:
        hooked.run(f"systemctl restart {unit}")
        yield Daemon(unit, NAMES[hooked.release == "bookworm"])
    finally:
        hooked.run(
            f"dpkg --force-depends --purge {' '.join(packages)}; rm -r $(dirname {DROP_IN});"
            " systemctl daemon-reload; rm -rf /var/lib/power-profiles-daemon"
        )


def shown(guest: Guest, name: str) -> list[str]:
    """The profile, how many hold one, and the limit of a VM's CPU."""
    return guest.run(ASK.format(name, name.replace(".", "/"))).stdout.split()


def wait_for(guest: Guest, name: str, expected: list[str]) -> None:
    ask = ASK.format(name, name.replace(".", "/"))
    guest.wait(f'[ "$({{ {ask} }} | xargs)" = "{" ".join(expected)}" ]')


def test_the_real_daemon_is_as_the_fake_says(hooked: Guest, daemon: Daemon) -> None:
    told = hooked.run(f"python3 -B - {daemon.name} {daemon.unit}", input=TALKING).stdout
    assert json.loads(told) == (TUNED_TALK if daemon.unit == TUNED else TALK)


def test_it_is_held_while_the_vm_runs_and_gone_however_it_ends(
    hooked: Guest, daemon: Daemon
) -> None:
    """The limit of the CPUs' idle states as well."""
    name = daemon.name
    domain = Domain("quick", vcpus=1, pins={0: "4"})
    with managed_vm(hooked, domain, TOML):
        hooked.start(domain.name)
        assert shown(hooked, name) == HELD
        assert hooked.read("/proc/sys/vm/swappiness") == "1\n"
        hooked.destroy(domain.name)
        assert shown(hooked, name) == FREE
        # The service alone is killed: systemd starts it again.
        hooked.start(domain.name)
        hooked.run(KILL_AND_WAIT)
        wait_for(hooked, name, HELD)
        # As well as QEMU.
        hooked.run(f"{KILL_SERVICE}; {KILL_QEMU}")
        hooked.wait("! ls /run/vfio-hooks/*.journal")
        wait_for(hooked, name, FREE)
        # And there is no libvirt to tell a hook of that.
        hooked.start(domain.name)
        assert shown(hooked, name) == HELD
        hooked.run(f"systemctl kill --signal=SIGKILL libvirtd; {KILL_SERVICE}; {KILL_QEMU}")
        wait_for(hooked, name, FREE)
        # Somebody chooses another one.
        hooked.start(domain.name)
        place = f"{name} /{name.replace('.', '/')} {name}"
        hooked.run(f"busctl set-property {place} ActiveProfile s power-saver")
        hooked.wait("journalctl -t vfio-hooks | grep -q 'somebody has chosen another'")
        hooked.destroy(domain.name)
        assert shown(hooked, name) == CHOSEN
        # The daemon may forget that choice when it is started anew; a kill is no matter, either.
        hooked.run(f"systemctl restart {daemon.unit}")
        hooked.start(domain.name)
        hooked.run(KILL_AND_WAIT)
        wait_for(hooked, name, HELD)
        hooked.destroy(domain.name)
        assert shown(hooked, name) == CHOSEN
        hooked.run("! ls -d /run/vfio-hooks-profile*")
        hooked.run(f"busctl set-property {place} ActiveProfile s balanced")
