"""The governor plugin on acpi_cpufreq: eight CPUs, a policy each, three frequencies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest

FOLDER = "/sys/devices/system/cpu/cpufreq"
# What each of three VMs wants of which CPUs; CPU 1 and 2 are wanted by all of them.
VMS = {
    "fast": ({0: "1", 1: "2"}, "[governor]\nmax_exit_latency = 0"),
    "steady": (
        {0: "2", 1: "3"},
        '[governor]\ngovernor = "ondemand"\nmin_freq = 2000000\nmax_exit_latency = 50',
    ),
    "slow": ({}, '[governor]\ngovernor = "powersave"'),
}


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    direct = Direct(hooked)
    for name, (pins, toml) in VMS.items():
        direct.manage(Domain(name, vcpus=2, pins=pins), toml)
    yield direct
    direct.forget()


def policies(vms: Direct) -> list[str]:
    """Governor, lowest frequency (kHz) and longest exit latency (µs) of each policy."""
    line = (
        f"cd {FOLDER}; paste policy?/scaling_governor; paste policy?/scaling_min_freq; "
        "paste ../cpu?/power/pm_qos_resume_latency_us"
    )
    told = (words.split() for words in vms.guest.run(line).stdout.splitlines())
    return [" ".join(policy) for policy in zip(*told, strict=True)]


def expected(host: list[str], running: list[str]) -> list[str]:
    """A policy is the newest VM's that wants it."""
    found = [policy.split() for policy in host]
    for name in running:
        cpus = [int(cpu) for cpu in VMS[name][0].values()] or list(range(len(host)))
        for cpu in cpus:
            governors = {"fast": "performance", "steady": "ondemand", "slow": "powersave"}
            found[cpu][0] = governors[name]
            if name == "steady":
                found[cpu][1] = "2800000"
            if limit := {"fast": "n/a", "steady": "50"}.get(name):
                found[cpu][2] = limit
    return [" ".join(policy) for policy in found]


@pytest.mark.matrix_only
@pytest.mark.parametrize(
    "order",
    [
        "fast steady slow fast steady slow",
        "slow fast steady steady fast slow",
        "steady slow steady fast slow fast",
    ],
)
def test_three_vms_with_overlapping_cpus(vms: Direct, order: str) -> None:
    """A name starts its VM or, the second time, stops it."""
    host = policies(vms)
    running: list[str] = []
    for name in order.split():
        if name in running:
            vms.stop(name)
            running.remove(name)
        else:
            assert vms.start(name) == ""
            running.append(name)
        assert policies(vms) == expected(host, running), f"{name} of {order}"
    assert policies(vms) == host


@pytest.mark.matrix_only
def test_what_the_driver_has_not(vms: Direct) -> None:
    one = Domain("fast", vcpus=1, pins={0: "1"})
    vms.manage(one, '[governor]\ngovernor = "warp"')
    assert "policy1 (acpi-cpufreq) has no governor 'warp'; there are: " in vms.start("fast")
    vms.manage(one, "[governor]\nmin_freq = 3700000")
    assert "they go from 1800000 to 3600000" in vms.start("fast")
    vms.manage(one, "[governor]\nboost = false")
    assert "cannot switch boost" in vms.start("fast")
