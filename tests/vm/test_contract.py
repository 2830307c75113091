"""libvirt's hook contract, as its daemon keeps it, with vfio-hooks installed.

A VM's own executables note every call that they get, and print: whatever they print must never
reach libvirt, which at `restore` would take it for the domain.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import product

import pytest

from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import NIC, NVME
from tests.vm.lending import at_home, drivers, lent, managed_vm

NOTES = "/run/notes"
SCRIPT = f'#!/bin/sh\necho "$1 $2 $3 $4" >> {NOTES}\ncat > /dev/null\necho this is not XML\n'
BEGINS = ("prepare", "start", "started", "restore", "reconnect", "migrate")
FULL_START = ["prepare begin", "start begin", "started begin"]
FULL_STOP = ["stopped end", "release end"]


def note_calls(guest: Guest, vm: str) -> None:
    """Executables for every operation, all alike."""
    for op in (*BEGINS, "stopped", "release"):
        subop = "begin" if op in BEGINS else "end"
        guest.put(f"/etc/libvirt/hooks/qemu.d/{vm}/{op}/{subop}", SCRIPT, "0755")


def calls(guest: Guest, vm: str) -> list[str]:
    """The calls since the last look, as "operation sub-operation"."""
    noted = guest.run(f"cat {NOTES} 2>/dev/null; rm -f {NOTES}", check=False).stdout
    fields = [line.split() for line in noted.splitlines()]
    return [f"{op} {subop}" for name, op, subop, *_ in fields if name == vm]


@pytest.fixture
def silent(hooked: Guest) -> Iterator[Guest]:
    yield hooked
    hooked.run(f"rm -f {NOTES} /var/tmp/saved")


def test_a_script_that_fails_is_told_by_virsh(silent: Guest) -> None:
    """With its last words, or why it cannot be run; one without a first line is bash's."""
    domain = Domain("contract", (), memory=16)
    begin = f"/etc/libvirt/hooks/qemu.d/{domain.name}/prepare/begin"
    with managed_vm(silent, domain, ""):
        for text, told in (
            ("#!/bin/sh\necho no >&2\necho such card >&2\nexit 3\n", "exit code 3: such card;"),
            ("#!/bin/sh\r\nexit 0\r\n", "its lines end in CR and LF, as on Windows"),
            ("[[ -n $BASH_VERSION ]] && echo bash >&2\nexit 4\n", "exit code 4: bash;"),
        ):
            silent.put(f"{begin}/one.sh", text, "0755")
            failed = silent.start(domain.name, check=False)
            assert failed.returncode
            assert f"{begin}/one.sh: " in failed.stderr
            assert told in failed.stderr
        assert "such card" in silent.run(f"vfio-hooks log {domain.name}").stdout


@pytest.mark.every_release
def test_save_and_restore_with_scripts_that_print(silent: Guest) -> None:
    domain = Domain("contract", (), memory=16)
    with managed_vm(silent, domain, ""):
        note_calls(silent, domain.name)
        silent.start(domain.name)
        assert calls(silent, domain.name) == FULL_START
        silent.virsh("save", domain.name, "/var/tmp/saved")
        assert calls(silent, domain.name) == FULL_STOP
        silent.virsh("restore", "/var/tmp/saved")
        assert calls(silent, domain.name) == ["restore begin", *FULL_START]
        assert "hook-script" not in silent.virsh("dominfo", domain.name).stdout
        assert "this is not XML" in silent.log()


@pytest.mark.matrix_only
def test_a_managed_save(silent: Guest) -> None:
    domain = Domain("contract", (), memory=16)
    with managed_vm(silent, domain, ""):
        note_calls(silent, domain.name)
        silent.start(domain.name)
        calls(silent, domain.name)
        silent.virsh("managedsave", domain.name)
        assert calls(silent, domain.name) == FULL_STOP
        silent.start(domain.name)
        assert calls(silent, domain.name) == ["restore begin", *FULL_START]


@pytest.mark.every_release
def test_a_guest_lives_through_a_restart_of_the_daemon(silent: Guest) -> None:
    """Its reconnect script even fails, which by itself would have libvirt kill it."""
    domain = Domain("contract", (HostDevice(NIC),))
    with managed_vm(silent, domain):
        reconnect = f"/etc/libvirt/hooks/qemu.d/{domain.name}/reconnect/begin"
        silent.put(reconnect, f"{SCRIPT}exit 1\n", "0755")
        silent.start(domain.name)
        silent.run("systemctl restart libvirtd")
        silent.wait("virsh list")
        silent.wait(f"test $(grep -c reconnect {NOTES}) = 1")
        assert silent.virsh("list", "--name").stdout.split() == [domain.name]
        assert drivers(silent, NIC) == lent(NIC)
        assert NIC in silent.run(f"vfio-hooks status {domain.name}").stdout
        silent.destroy(domain.name)
        assert drivers(silent, NIC) == at_home(NIC)


def test_a_guest_that_dies_while_the_daemon_is_down(silent: Guest) -> None:
    domain = Domain("contract", (HostDevice(NIC, managed=False),))
    with managed_vm(silent, domain):
        silent.start(domain.name)
        assert drivers(silent, NIC) == lent(NIC)
        units = "libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
        silent.run(f"systemctl stop {units}")
        silent.run("pkill -KILL qemu-system")
        silent.wait("! pgrep qemu-system")
        silent.run(f"systemctl start {units}")
        silent.wait(f"virsh domstate {domain.name} | grep -q 'shut off'")
        silent.wait(f"! ls /run/vfio-hooks/{domain.uuid}.journal")
        assert drivers(silent, NIC) == at_home(NIC)


@pytest.mark.matrix_only
def test_a_daemon_of_a_user_s_own(silent: Guest) -> None:
    """qemu:///session runs the same hook, as the user, for a VM of a managed VM's name."""
    domain = Domain("contract", ())
    folder = shlex.quote(f"/etc/libvirt/hooks/qemu.d/{domain.name}")
    silent.run(f"mkdir -p {folder} && echo '[pci]' > {folder}/vm.toml")
    silent.put("/run/session.xml", domain.xml())
    virsh = "runuser -u grassyloki -- env HOME=/home/grassyloki virsh -q -c qemu:///session"
    started = silent.run(
        f"cd /; {virsh} define /run/session.xml && {virsh} start {domain.name}", check=False
    )
    silent.run(f"cd /; {virsh} destroy {domain.name}; {virsh} undefine {domain.name}", check=False)
    silent.run(f"rm -rf {folder} /run/session.xml; pkill -u grassyloki", check=False)
    assert started.returncode == 0, started.stderr


STARTED_FAILS = "#!/bin/sh\nexit 3\n"


@pytest.mark.matrix_only
@pytest.mark.parametrize("strict", [False, True])
def test_a_failure_at_started(silent: Guest, strict: bool) -> None:
    """The guest runs already; only an owner who asked for it loses it."""
    domain = Domain("contract", ())
    with managed_vm(silent, domain, f"strict_started = {str(strict).lower()}\n"):
        path = f"/etc/libvirt/hooks/qemu.d/{domain.name}/started/begin"
        silent.put(path, STARTED_FAILS, "0755")
        started = silent.start(domain.name, check=False)
        assert started.returncode == int(strict)
        state = silent.virsh("domstate", domain.name).stdout.strip()
        assert state == ("shut off" if strict else "running")
        if strict:
            assert f"{path}: exit code 3" in started.stderr


@pytest.mark.matrix_only
def test_a_script_may_use_what_is_in_usr_local(silent: Guest) -> None:
    """libvirtd's AppArmor profile allows the hook itself nothing there."""
    domain = Domain("contract", (HostDevice("0000:99:00.0"),))
    silent.put("/usr/local/bin/vfio-hooks-test-tool", "#!/bin/sh\necho ran > /run/tool\n", "0755")
    with managed_vm(silent, domain, ""):
        path = f"/etc/libvirt/hooks/qemu.d/{domain.name}/prepare/begin/10 use.sh"
        silent.put(path, "#!/bin/sh\nvfio-hooks-test-tool\n", "0755")
        # The device is not there, so this ends soon after prepare.
        silent.start(domain.name, check=False)
        ran = silent.run("cat /run/tool", check=False).stdout
        silent.run("rm -f /run/tool /usr/local/bin/vfio-hooks-test-tool")
        assert ran == "ran\n"


LABEL = """\
def plan(event, domain, options, host):
    with open("/proc/self/attr/current") as label, open("/run/label", "a") as file:
        file.write(f"{event.op} {label.read().strip()}\\n")
    return ()
"""


def test_python_is_out_of_the_daemons_profile(silent: Guest) -> None:
    """The hook's first half, a shell, is in it; what that becomes is not."""
    domain = Domain("contract", ())
    with managed_vm(silent, domain, ""):
        silent.put(f"/etc/libvirt/hooks/qemu.d/{domain.name}/label.py", LABEL)
        silent.start(domain.name)
        seen = silent.read("/run/label").splitlines()
        silent.run("rm /run/label")
        assert seen == [f"{op} unconfined" for op in ("prepare", "start", "started")]


def starts_python(guest: Guest, vm: str, op: str) -> bool:
    call = f"sh -x /etc/libvirt/hooks/qemu {shlex.quote(vm)} {op} - -"
    return "+ exec /usr/bin/python3" in guest.run(f"{call} 2>&1 < /dev/null").stdout


@pytest.mark.matrix_only
def test_events_with_nothing_to_do_end_in_the_shell(silent: Guest) -> None:
    domain = Domain("contract", ())
    with managed_vm(silent, domain, WRITE):
        folder = shlex.quote(f"/etc/libvirt/hooks/qemu.d/{domain.name}")
        silent.run(f"touch -d '1 minute ago' {folder}/vm.toml {folder}")
        silent.start(domain.name)
        for vm, op in product(("other", domain.name), ("start", "started", "stopped")):
            assert not starts_python(silent, vm, op), (vm, op)
        assert not starts_python(silent, "other", "release")
        silent.run(f"touch {folder}/vm.toml")
        assert starts_python(silent, domain.name, "started")


DISK = "/var/tmp/contract.qcow2"
QCOW2 = (
    f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{DISK}'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)
SWAPPINESS = "/proc/sys/vm/swappiness"
WRITE = f'[[write]]\npath = "{SWAPPINESS}"\nvalue = "7"\n'


@pytest.mark.matrix_only
def test_snapshots(silent: Guest) -> None:
    """Taking one is no event; reverting to one is a stop and a start, and what the VM wants of
    the host holds all the while that it runs."""
    domain = Domain("contract", (), memory=16, extra_devices=QCOW2)
    own = silent.read(SWAPPINESS)
    silent.run(f"qemu-img create -q -f qcow2 {DISK} 16M")
    try:
        with managed_vm(silent, domain, WRITE):
            note_calls(silent, domain.name)
            silent.start(domain.name)
            silent.virsh("snapshot-create-as", domain.name, "one")
            assert calls(silent, domain.name) == FULL_START
            silent.virsh("snapshot-revert", domain.name, "one", "--force")
            seen = calls(silent, domain.name)
            assert [op for op in seen if op in FULL_START] in ([], FULL_START)
            assert silent.virsh("domstate", domain.name).stdout.strip() == "running"
            assert silent.read(SWAPPINESS) == "7\n"
            silent.destroy(domain.name)
            assert silent.read(SWAPPINESS) == own
            # Off, and back to a moment in which it ran.
            calls(silent, domain.name)
            silent.virsh("snapshot-revert", domain.name, "one")
            assert calls(silent, domain.name) == FULL_START
            assert silent.read(SWAPPINESS) == "7\n"
            silent.destroy(domain.name)
            assert silent.read(SWAPPINESS) == own
            silent.virsh("snapshot-delete", domain.name, "one")
    finally:
        silent.run(f"rm -f {DISK}")


@pytest.mark.every_release
def test_a_device_that_comes_while_the_vm_runs(silent: Guest) -> None:
    """No hook is told of it; libvirt shows it at the end, when it is libvirt's to give back."""
    root = "<controller type='pci' index='0' model='pcie-root'/>"
    port = "<controller type='pci' index='{}' model='pcie-root-port'/>"
    domain = Domain("contract", (), extra_devices=root + port.format(1) + port.format(2))
    with managed_vm(silent, domain):
        silent.start(domain.name)
        silent.put("/run/device.xml", HostDevice(NVME[0]).xml())
        silent.virsh("attach-device", domain.name, "/run/device.xml", "--live")
        assert drivers(silent, NVME[0]) == lent(NVME[0])
        silent.destroy(domain.name)
        assert drivers(silent, NVME[0]) == at_home(NVME[0])
        silent.run("rm /run/device.xml")


@pytest.mark.matrix_only
def test_the_daemon_is_stopped_while_a_hook_runs(silent: Guest) -> None:
    """It waits for the hook, and the VM then runs or is off, with the host as that needs it."""
    domain = Domain("contract", (HostDevice(NIC, managed=False),))
    with managed_vm(silent, domain):
        path = f"/etc/libvirt/hooks/qemu.d/{domain.name}/prepare/begin"
        silent.put(path, "#!/bin/sh\ntouch /run/here\nuntil [ -e /run/go ]; do :; done\n", "0755")
        silent.run("rm -f /run/here /run/go")
        silent.start_unit("starter", f"virsh start {domain.name}")
        silent.wait("test -e /run/here")
        silent.run("systemctl --no-block restart libvirtd")
        silent.wait("systemctl is-active libvirtd | grep -qx deactivating")
        silent.run("touch /run/go")
        silent.wait("! systemctl is-active --quiet starter")
        silent.wait("systemctl is-active libvirtd && virsh list")
        silent.run(f"rm -f /run/here /run/go {path}")
        running = silent.virsh("domstate", domain.name).stdout.strip() == "running"
        if not running and drivers(silent, NIC) != at_home(NIC):
            # libvirtd waits 30 s for what it does; then it ends all the same, as if it were killed.
            silent.run(f"vfio-hooks undo {domain.name}")
        silent.wait(f"test -e /run/vfio-hooks/{domain.uuid}.journal -o ! {int(running)} = 1")
        assert drivers(silent, NIC) == (lent(NIC) if running else at_home(NIC))
        if running:
            silent.destroy(domain.name)
        assert drivers(silent, NIC) == at_home(NIC)


@pytest.mark.every_release
def test_qemu_dies(silent: Guest) -> None:
    domain = Domain("contract", (HostDevice(NIC, managed=False),))
    with managed_vm(silent, domain):
        note_calls(silent, domain.name)
        silent.start(domain.name)
        calls(silent, domain.name)
        silent.run(f"kill -KILL $(cat /run/libvirt/qemu/{domain.name}.pid)")
        silent.wait(f"virsh domstate {domain.name} | grep -q 'shut off'")
        assert calls(silent, domain.name) == FULL_STOP
        assert drivers(silent, NIC) == at_home(NIC)
