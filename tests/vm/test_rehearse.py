"""vfio-hooks rehearse on a real host: equal where all comes back, and each thing named that does
not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_AUDIO, GPU_GROUP
from tests.vm.lending import HOOKS, at_home, drivers, given, managed_vm
from vfio_hooks.rehearse.compared import difference

pytestmark = pytest.mark.vm

VM = Domain(
    "win11",
    given(*GPU_GROUP),
    vcpus=2,
    pins={0: "4", 1: "5"},
    emulator_pin="0-1",
    extra_devices="<interface type='user'/>",
)
CLONE = "win11-rehearsal"
TOML = "[pci]\n[cpus]\n[irqs]\n[governor]\n[memory]\n"
REPORTS = "/var/lib/vfio-hooks/rehearsals"
MINE = "[Service]\nExecStart=sleep infinity\n"
UNIT = "/run/systemd/system/mine.service"
CPUMASK = "/sys/devices/virtual/workqueue/cpumask"
# While the clone runs: a driver that cannot be loaded again, a mask that somebody writes, and a
# unit that nobody can start any more.
FAULTS = f"""\
#!/bin/sh
set -e
echo 'install snd_hda_intel /bin/false' > /run/modprobe.d/fault.conf
rmmod snd_hda_intel
echo 3 > {CPUMASK}
rm {UNIT}
systemctl daemon-reload
"""


@contextmanager
def rehearsed(guest: Guest, toml: str = TOML) -> Iterator[None]:
    with managed_vm(guest, VM, toml):
        try:
            yield
        finally:
            guest.run(f"rm -rf {REPORTS} /var/log/libvirt/qemu/{CLONE}.log")


def rehearse(guest: Guest, *words: str) -> tuple[int, list[str]]:
    """The exit code, and the verdict."""
    line = f"vfio-hooks rehearse {VM.name} --yes {shlex.join(words)}"
    done = guest.run(line, check=False, timeout=1200)
    assert done.stderr == "", done.stderr
    report = guest.run(f"cat {REPORTS}/{VM.name}-*.txt").stdout
    assert report in done.stdout
    lines = [one.partition(" ")[2] for one in report.splitlines()]
    return done.returncode, [
        line.partition(": ")[2] for line in lines if line.startswith("verdict: ")
    ]


def test_a_round_that_is_equal(hooked: Guest) -> None:
    with rehearsed(hooked):
        before = hooked.snapshot()
        assert rehearse(hooked, "--rounds", "1") == (0, ["equal"])
        assert difference(before, hooked.observe(before)[0]) == []
        log = hooked.log()
        assert f"{CLONE}: prepare" in log and f"{CLONE}: release" in log
        assert hooked.run(f"ls {HOOKS}; virsh -q list --all --name").stdout.split() == [
            *(VM.name, VM.name),
        ]


@pytest.mark.matrix_only
def test_five_rounds_are_equal(hooked: Guest) -> None:
    with rehearsed(hooked):
        assert rehearse(hooked) == (0, ["equal"])


@pytest.mark.matrix_only
def test_what_does_not_come_back_is_named(hooked: Guest) -> None:
    hooked.put(UNIT, MINE)
    hooked.run(f"mkdir -p /run/modprobe.d; cat {CPUMASK} > /run/cpumask")
    hooked.run("systemctl daemon-reload; systemctl start mine")
    try:
        with rehearsed(hooked, f'{TOML.replace("[cpus]", "")}[[service]]\nunit = "mine"\n'):
            hooked.put(f"{HOOKS}/{VM.name}/started/begin/faults.sh", FAULTS, mode="0755")
            code, verdict = rehearse(hooked, "--rounds", "1")
    finally:
        hooked.run(
            f"rm -f {UNIT} /run/modprobe.d/fault.conf; systemctl daemon-reload;"
            f" cat /run/cpumask > {CPUMASK}; modprobe snd_hda_intel;"
            f" vfio-hooks undo --all; vfio-hooks undo --all --forget",
            check=False,
        )
    assert code == 1
    told = "\n".join(verdict)
    assert f"pci {GPU_AUDIO} driver: 'snd_hda_intel' -> '', since the end of round 1" in told
    assert f"file {CPUMASK}: 'ff' -> '03', since the start of round 1" in told
    assert "unit mine.service: 'active' -> " in told
    assert "journal: new, 'changes that are not put back; vfio-hooks status'" in told


@pytest.mark.matrix_only
def test_a_rehearsal_that_is_killed(hooked: Guest) -> None:
    with rehearsed(hooked):
        before = hooked.snapshot()
        hooked.run(f"vfio-hooks rehearse {VM.name} --yes > /dev/null 2>&1 &")
        hooked.wait(f"grep -q 'it runs, and will be ended' {REPORTS}/{VM.name}-*.txt")
        hooked.run("systemctl kill --signal=KILL vfio-hooks-rehearsal.service")
        hooked.wait(f"tail -n 1 {REPORTS}/{VM.name}-*.txt | grep 'the rehearsal died'")
        hooked.wait("! systemctl is-active --quiet vfio-hooks-rehearsal-rescue.timer")
        assert drivers(hooked, *GPU_GROUP) == at_home(*GPU_GROUP)
        assert difference(before, hooked.observe(before)[0]) == []


@pytest.mark.matrix_only
def test_what_is_refused(hooked: Guest) -> None:
    def said(vm: str) -> str:
        return hooked.run(f"vfio-hooks rehearse {vm} --yes", check=False).stderr

    assert said("nobody").startswith("vfio-hooks: libvirt knows no domain nobody")
    with managed_vm(hooked, Domain("plain"), '[[write]]\npath = "vm.swappiness"\nvalue = 7\n'):
        hooked.start("plain")
        assert said("plain") == "vfio-hooks: plain is running; shut it down first\n"
