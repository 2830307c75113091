"""The service and inhibit plugins with the real systemd and logind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest

UNIT = "/run/systemd/system/{}.service"
TOML = """\
[inhibit]
[[service]]
unit = "radio"
[[service]]
unit = "lamp.service"
action = "start"
[[service]]
unit = "clock"
action = "restart"
"""


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    for name in ("radio", "lamp", "clock"):
        hooked.put(UNIT.format(name), "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    hooked.run("systemctl daemon-reload; systemctl start radio clock")
    direct = Direct(hooked)
    yield direct
    direct.forget()
    units = " ".join(UNIT.format(name) for name in ("radio", "lamp", "clock"))
    hooked.run(f"systemctl stop radio lamp clock; rm {units}; systemctl daemon-reload")


def active(guest: Guest) -> list[str]:
    return guest.run("systemctl is-active radio lamp clock", check=False).stdout.split()


def locks(guest: Guest) -> str:
    return guest.run("systemd-inhibit --list --no-legend | grep vfio-hooks", check=False).stdout


def clock(guest: Guest) -> str:
    return guest.run("systemctl show -P MainPID clock").stdout


def test_what_was_stopped_stays_stopped(vms: Direct) -> None:
    guest = vms.guest
    vms.manage(Domain("one"), TOML)
    vms.manage(Domain("two"), '[[service]]\nunit = "radio"\naction = "start"\n')
    first = clock(guest)
    assert vms.start("one") == ""
    assert active(guest) == ["inactive", "active", "active"]
    assert (second := clock(guest)) != first
    assert "sleep:idle" in locks(guest) and "VM one runs" in locks(guest)
    assert vms.start("two") == ""
    assert active(guest) == ["active", "active", "active"]
    vms.stop("one")
    assert active(guest) == ["active", "inactive", "active"]
    assert clock(guest) not in (first, second)
    assert locks(guest) == ""
    vms.stop("two")
    assert active(guest) == ["active", "inactive", "active"]
    # Stopped by its owner: nobody starts it after the VM.
    guest.run("systemctl stop radio clock")
    assert vms.start("one") == ""
    vms.stop("one")
    assert active(guest) == ["inactive", "inactive", "inactive"]


@pytest.mark.matrix_only
def test_what_is_not_there(vms: Direct) -> None:
    vms.manage(Domain("one"), '[inhibit]\n[[service]]\nunit = "nonesuch"\n')
    assert "nonesuch.service: systemd has no such unit" in vms.start("one")
    vms.manage(Domain("one"), "[inhibit]\n")
    vms.guest.run("systemctl mask --runtime --now systemd-logind.service")
    assert "this host has no systemd-logind" in vms.start("one")
    vms.guest.run("systemctl unmask --runtime systemd-logind.service")
