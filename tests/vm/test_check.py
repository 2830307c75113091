"""`vfio-hooks check` on a whole host with a real libvirtd: what is found, and nothing false."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.direct import HOOKS
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU_GROUP

# It is emulated, booted without UEFI, and for speed without mitigations. The domains are of the
# type qemu, which needs no KVM.
HOST = {"kvm-off", "legacy-boot", "mitigations-off"}
WITH_VM = HOST - {"kvm-off"}
CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
LIBRARIES = "/usr/local/lib/vfio-hooks"
VM = Domain("checked", vcpus=2, pins={0: "6", 1: "7"})
FOLDER = f"{HOOKS}/qemu.d/{VM.name}"
SCRIPT = f"{FOLDER}/prepare/begin/mine.sh"


def check(guest: Guest, domain: Domain | None = None) -> dict[str, str]:
    """The findings about host and hook, by name, with what they say and what to do."""
    argument = "--xml -" if domain else ""
    done = guest.run(
        f"vfio-hooks check --json {argument}",
        check=False,
        input=domain.xml() if domain else None,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == int(any(one["level"] != "hint" for one in found))
    told = {one["name"]: f"{one['text']}; {one['do']}" for one in found if one["area"] != "domain"}
    # Under emulation the kernel of one release keeps its TSC, that of the other gives it up.
    assert ("clock-not-tsc" in told) == (guest.read(CLOCK) != "tsc\n")
    told.pop("clock-not-tsc", None)
    # An emulated CPU of a busy machine may stand still for long, and the kernel says so; test_why
    # has what a healthy one may say.
    told.pop("kernel-said", None)
    return told


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    yield hooked
    hooked.run(f"rm -rf {HOOKS}/qemu.d/*; chmod 755 {HOOKS}/qemu")


@pytest.mark.every_release
def test_an_installed_host(host: Guest) -> None:
    assert set(check(host)) == HOST


@pytest.mark.matrix_only
def test_what_a_vm_makes_of_it(host: Guest) -> None:
    whole = Domain(VM.name, tuple(map(HostDevice, GPU_GROUP)), vcpus=2, pins=VM.pins)
    assert set(check(host, whole)) - WITH_VM == {
        *("vm-tables", "vm-unmanaged"),
    }
    tables = "".join(f"[{name}]\n" for name in ("pci", "cpus", "irqs", "governor", "memory"))
    host.put(f"{FOLDER}/vm.toml", tables)
    assert set(check(host, whole)) == WITH_VM
    host.run("systemd-run --unit=tuned sleep infinity")
    assert "tuned is in use" in check(host, whole)["governor-rivals"]
    host.put(f"{FOLDER}/vm.toml", f'{tables}[[service]]\nunit = "tuned"\n')
    assert set(check(host, whole)) == WITH_VM
    host.run("systemctl stop tuned")
    part = Domain(VM.name, (HostDevice(GPU_GROUP[0]), HostDevice(BOOT_VGA)), pins=VM.pins)
    host.put(f"{FOLDER}/vm.toml", "[cpus]\n[irqs]\n[governor]\n[memory]\n")
    assert set(check(host, part)) - WITH_VM == {"group-shared", "boot-display-passed"}


@pytest.mark.matrix_only
def test_a_domain_as_libvirt_has_it(host: Guest) -> None:
    host.define(VM)
    try:
        done = host.run(f"vfio-hooks check {VM.name}", check=False)
        assert (done.returncode, done.stderr) == (1, "")
        assert f"sudo vfio-hooks check {VM.name} --fix\n" in done.stdout
        # It is given no graphics card.
        assert "In the guest" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 100
    finally:
        host.remove(VM.name)
    absent = host.run("vfio-hooks check no-such-vm", check=False)
    assert absent.stderr.startswith("vfio-hooks: libvirt knows no domain no-such-vm")


@pytest.mark.matrix_only
def test_what_people_do_to_their_hooks(host: Guest) -> None:
    host.put(f"{FOLDER}/vm.toml", "[pc1]\n", mode="0666")
    host.put(SCRIPT, "#!/bin/sh\nvirsh dumpxml $1\n", mode="0755")
    host.put(f"{FOLDER}/start/begin/late.sh", "#!/bin/sh\n")
    host.put(f"{HOOKS}/qemu.d/everyone.sh", "#!/bin/sh\n", mode="0755")
    host.run(f"chmod 644 {HOOKS}/qemu")
    found = check(host)
    assert set(found) - HOST == {
        *("hook-not-executable", "config-unsafe", "qemu-d-executable"),
        *("script-calls-virsh", "script-not-executable"),
    }
    assert f"chmod go-w {FOLDER}/vm.toml" in found["config-unsafe"]
    host.run(f"chmod go-w {FOLDER}/vm.toml")
    assert "did you mean pci?" in check(host)["config-wrong"]


def test_a_daemon_that_has_not_seen_the_hook(host: Guest) -> None:
    """As after the first installation, had that not reloaded libvirtd. systemd's stamps are what
    it is told from."""
    host.run(f"touch {HOOKS}/qemu {LIBRARIES}/*")
    assert "systemctl reload libvirtd.service" in check(host)["hook-not-seen"]
    host.run("systemctl reload libvirtd.service")
    assert set(check(host)) == HOST


@pytest.mark.matrix_only
def test_what_was_left_changed(host: Guest) -> None:
    host.put(f"{FOLDER}/vm.toml", '[[write]]\npath = "vm.dirty_ratio"\nvalue = 5\n')
    event = f"{HOOKS}/qemu {VM.name} {{}} -"
    host.run(event.format("prepare begin"), input=VM.xml())
    try:
        assert f"vfio-hooks undo {VM.name}" in check(host)["journal-stale"]
    finally:
        host.run(event.format("release end"), input=VM.xml())


@pytest.mark.matrix_only
@pytest.mark.parametrize("nodes", ["", "1"])
def test_apparmor_between_qemu_and_its_nodes(host: Guest, nodes: str) -> None:
    """What it finds on Debian 12 is what test_hugepages has to avoid there."""
    asked = Domain(VM.name, nodes=nodes, hugepages=2048)
    refused = nodes and host.release == "bookworm"
    assert ("apparmor-numa-hugepages" in check(host, asked)) == bool(refused)
