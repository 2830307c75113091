"""[governor]'s power_profile with the real power-profiles-daemon, whose driver is its own fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.power_profiles import TALK
from tests.vm import debs
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.lending import managed_vm
from vfio_hooks.host.power_profiles import NAMES

pytestmark = pytest.mark.matrix_only

DROP_IN = "/run/systemd/system/power-profiles-daemon.service.d/fake.conf"
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
name = sys.argv[1]
place = [name, "/" + name.replace(".", "/"), name, "ActiveProfile"]
def profile():
    done = subprocess.run(["busctl", "get-property", *place], capture_output=True, text=True)
    return done.stdout.strip()[3:-1]
def choose(wanted):
    subprocess.run(["busctl", "set-property", *place, "s", wanted], check=True)
def restart():
    subprocess.run(["systemctl", "restart", "power-profiles-daemon"], check=True)
print(json.dumps(talk(name, Bus, profile, choose, restart)))
choose("balanced")
"""
TOML = '[governor]\npower_profile = "performance"\nmax_exit_latency = 20\n'
HELD, FREE = ["performance", "1", "20"], ["balanced", "0", "0"]
UNIT = "$(systemctl list-units --plain --no-legend 'vfio-hooks-profile-*' | cut -d' ' -f1)"
KILL_SERVICE = f"systemctl kill --signal=SIGKILL {UNIT}"
KILL_QEMU = "kill -9 $(cat /run/libvirt/qemu/quick.pid)"


@pytest.fixture
def name(hooked: Guest, tmp_path: Path) -> Iterator[str]:
    """The daemon's name on the bus; Debian 12 has one that knows the older one alone."""
    hooked.put(DROP_IN, FAKE)
    hooked.run("systemctl daemon-reload")
    packages = ("power-profiles-daemon", "libupower-glib3")
    debs.install(hooked, debs.fetch(hooked.release, packages, tmp_path))
    try:
        hooked.run("systemctl restart power-profiles-daemon")
        yield NAMES[hooked.release == "bookworm"]
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


def test_the_real_daemon_is_as_the_fake_says(hooked: Guest, name: str) -> None:
    assert json.loads(hooked.run(f"python3 -B - {name}", input=TALKING).stdout) == TALK


def test_it_is_held_while_the_vm_runs_and_gone_however_it_ends(hooked: Guest, name: str) -> None:
    """The limit of the CPUs' idle states as well."""
    domain = Domain("quick", vcpus=1, pins={0: "4"})
    with managed_vm(hooked, domain, TOML):
        hooked.start(domain.name)
        assert shown(hooked, name) == HELD
        hooked.destroy(domain.name)
        assert shown(hooked, name) == FREE
        # The service alone is killed: systemd starts it again.
        hooked.start(domain.name)
        hooked.run(
            f"before=$(systemctl show -P MainPID {UNIT}); {KILL_SERVICE};"
            f" until [ $(systemctl show -P MainPID {UNIT}) != $before ]; do sleep 0.1; done"
        )
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
        assert shown(hooked, name) == ["power-saver", *FREE[1:]]
        hooked.run(f"busctl set-property {place} ActiveProfile s balanced")
