"""install.sh on a whole host: libvirt runs what it installs, AppArmor has nothing against it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.effort import effort
from tests.vm.guest import CHECKOUT, Guest
from tests.vm.hardware import DRIVERS, NIC

pytestmark = pytest.mark.vm

HOOKS = "/etc/libvirt/hooks"
# Two versions, copied, because an install of /src itself would change with the developer's files.
INSTALL, OTHER = "/tmp/checkout/install.sh", "/tmp/other/install.sh"
# Leaves out what takes seconds under emulation: looking for Python's modules, the trial VM.
QUICKLY = "--destdir /"
LIBRARIES = "/usr/local/lib/vfio-hooks"
TRIED_OUT = "libvirt runs the hook: it refused to start the trial VM, as it should"
UUID = "6e6f2b3f-4be2-4ad0-9a4c-5f0c2a361d10"

# Tells what it is called with. A VM whose disk is missing fails after `prepare`: libvirt runs
# its hooks for it, and no QEMU.
FOREIGN = """\
#!/bin/sh
printf '%s|%s|%s|%s\\n' "$0" "$*" "$(sha256sum < /dev/stdin)" "$(pwd)" >> /tmp/foreign.log
"""
VFIO_TOOLS = """\
#!/bin/bash
GUEST_NAME=$1 HOOK_NAME=$2 STATE_NAME=$3
for file in "$(dirname "$0")/qemu.d/$GUEST_NAME/$HOOK_NAME/$STATE_NAME"/*; do "$file" "$@"; done
"""
DISKLESS = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>1</memory><os><type>hvm</type></os>
<devices><disk type='file'><source file='/nonexistent'/><target dev='vda'/></disk></devices>
</domain>
"""
PASSING = f"""\
<domain type='qemu'>
  <name>install-test</name>
  <uuid>{UUID}</uuid>
  <devices><hostdev mode='subsystem' type='pci' managed='no'><source>
    <address domain='0' bus='0x{NIC[5:7]}' slot='0' function='0'/>
  </source></hostdev></devices>
</domain>
"""
EVENING = f"""
hook() {{ {HOOKS}/qemu install-test "$@" - < /tmp/install-test.xml; }}
until [ -e /tmp/upgraded ]; do
    hook prepare begin && hook start begin || echo failed
    hook stopped end && hook release end || echo failed
    echo done
done 2>&1
"""
DRIVER = f"basename $(readlink /sys/bus/pci/devices/{NIC}/driver)"


class Host:
    """The guest, as the administrator of a host sees it."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def fails(self, line: str, text: str = "") -> str:
        done = self._guest.run(line, input=text, check=False, timeout=900)
        assert done.returncode != 0, line
        return done.stdout + done.stderr

    def run(self, line: str, text: str = "") -> str:
        return self._guest.run(line, input=text, timeout=900).stdout

    def tree(self) -> str:
        """Every installed file, with its mode, owner, time and contents."""
        return self.run(
            f"find {HOOKS} /usr/local/bin {LIBRARIES} -type f "
            "-printf '%p %m %u %T@ ' -exec sha256sum {} ';' 2>/dev/null | sort"
        )

    def event(self, op: str, check: bool = True) -> str:
        """Run the hook as libvirt would."""
        line = f"{HOOKS}/qemu install-test {op} -"
        return self.run(line, PASSING) if check else self.fails(line, PASSING)


@pytest.fixture
def checkouts(guest: Guest) -> Host:
    """A guest with two versions to install, made for the first test in it."""
    made = Host(guest)
    if guest.run("test -e /tmp/compiled", check=False).returncode == 0:
        return made
    made.run(
        """
        rm -rf /tmp/checkout /tmp/other
        mkdir /tmp/checkout
        cp -r /src/hooks /src/vfio_hooks /tmp/checkout
        (cd /src && xargs -a packaging/installer cp --parents -t /tmp/checkout)
        cp -r /tmp/checkout /tmp/other
        echo '# another version' >> /tmp/other/vfio_hooks/engine/__init__.py
        """
    )
    made.run(f"{INSTALL} {QUICKLY} && cp -a {LIBRARIES} /tmp/compiled")
    return made


@pytest.fixture
def bare(checkouts: Host) -> Iterator[Host]:
    """A host without vfio-hooks, again so afterwards."""
    clean = f"{INSTALL} --uninstall; rm -rf /tmp/foreign.log {HOOKS}/qemu {HOOKS}/qemu.* "
    checkouts.run(clean)
    yield checkouts
    checkouts.run(clean)


@pytest.fixture
def host(bare: Host) -> Host:
    """The same, but for the compiled package, which takes ten seconds to make there."""
    bare.run(f"cp -aT /tmp/compiled {LIBRARIES}")
    return bare


@pytest.fixture
def managed(host: Host) -> Host:
    """With vfio-hooks, and a VM that has the network card."""
    host.run(f"{INSTALL} {QUICKLY}")
    host.run(f"mkdir {HOOKS}/qemu.d/install-test")
    host.run(f"echo '[pci]' > {HOOKS}/qemu.d/install-test/vm.toml")
    return host


@pytest.mark.matrix_only
def test_another_run_changes_nothing(hooked: Guest) -> None:
    """All guests have what install.sh does out of a user's checkout. There is none if its trial VM
    is not refused, so at each change that much is shown of every release."""
    host = Host(hooked)
    before = host.tree()
    told = host.run(f"{CHECKOUT}/install.sh").splitlines()
    assert told == ["everything is already installed", TRIED_OUT]
    assert host.tree() == before


@pytest.mark.matrix_only
def test_libvirt_runs_the_hook_and_a_second_run_changes_nothing(bare: Host) -> None:
    told = bare.run(INSTALL).splitlines()
    assert told[-2] == TRIED_OUT
    assert told[-1].startswith("next: sudo vfio-hooks check VM")
    before = bare.tree()
    assert "qemu.d/vfio-hooks-probe" not in before
    assert bare.run(INSTALL).splitlines() == ["everything is already installed", TRIED_OUT]
    assert bare.tree() == before
    assert bare.run("virsh list --all --name").strip() == ""


@pytest.mark.matrix_only
def test_libvirt_starts_a_managed_vm_with_it(managed: Host) -> None:
    """Here and everywhere below, `host_unchanged` fails for any denial by AppArmor."""
    since = managed.run("date '+%F %T'").strip()
    managed.run("systemctl reload libvirtd")
    managed.fails("virsh create /dev/stdin", DISKLESS.format(name="install-test"))
    said = managed.run(
        f"journalctl --sync; journalctl --quiet --since '{since}' -t vfio-hooks -o cat"
    )
    assert "install-test: prepare" in said


@pytest.mark.matrix_only
def test_a_foreign_hook_goes_on_being_run(host: Host) -> None:
    host.run(f"cat > {HOOKS}/qemu; chmod 755 {HOOKS}/qemu", FOREIGN)
    told = host.run(INSTALL)
    assert f"keep your own hook as {HOOKS}/qemu.kept" in told
    assert "not tested whether libvirt runs the hook: other hooks would also be run" in told
    host.run(f"mkdir {HOOKS}/qemu.d/managed; touch {HOOKS}/qemu.d/managed/vm.toml")
    for name in ("unmanaged", "managed"):
        host.fails("virsh create /dev/stdin", DISKLESS.format(name=name))
    lines = [line.split("|") for line in host.run("cat /tmp/foreign.log").splitlines()]
    calls = [(line[0], line[1].rsplit(" ", 1)[0], line[3]) for line in lines]
    events = ("prepare begin", "stopped end", "release end")
    path = f"{HOOKS}/qemu.kept"
    assert calls == [(path, f"{vm} {e}", "/") for vm in ("unmanaged", "managed") for e in events]
    nothing = host.run("sha256sum < /dev/null").strip()
    assert all(line[2] != nothing for line in lines)
    told = host.run(f"{INSTALL} --uninstall")
    assert "put your own hook back" in told
    assert host.run(f"cat {HOOKS}/qemu") == FOREIGN
    host.fails("virsh create /dev/stdin", DISKLESS.format(name="back"))
    assert f"{HOOKS}/qemu|back prepare begin -" in host.run("cat /tmp/foreign.log")


@pytest.mark.matrix_only
def test_executables_are_run_once_after_vfio_tools(host: Host) -> None:
    """Its hook and its users' folders were there before; ours does its work now."""
    host.run(f"cat > {HOOKS}/qemu; chmod 755 {HOOKS}/qemu", VFIO_TOOLS)
    script = f"{HOOKS}/qemu.d/install-test/prepare/begin/mine.sh"
    host.run(f"mkdir -p $(dirname {script}); cat > {script}; chmod 775 {script}", FOREIGN)
    told = host.run(INSTALL)
    assert f"keep your own hook as {HOOKS}/qemu.replaced" in told
    assert "attention: users other than root can write to files in" in told
    assert "users other than its owner may write to it" in host.event("prepare begin", check=False)
    host.run(f"chmod go-w {script}")
    host.event("prepare begin")
    host.event("release end")
    assert [line.split("|")[:2] for line in host.run("cat /tmp/foreign.log").splitlines()] == [
        [script, "install-test prepare begin -"]
    ]


@pytest.mark.matrix_only
def test_uninstall_is_refused_while_a_device_is_lent(managed: Host) -> None:
    managed.event("prepare begin")
    assert managed.run(DRIVER).strip() == "vfio-pci"
    before = managed.tree()
    told = managed.fails(f"{INSTALL} --uninstall")
    assert told.count("\n") == 1
    assert "vfio-hooks undo 'install-test'" in told
    assert managed.tree() == before
    managed.event("release end")
    assert managed.run(DRIVER).strip() == DRIVERS[NIC]
    managed.run(f"{INSTALL} --uninstall")
    assert managed.run("ls /run/vfio-hooks 2>&1 || true").endswith("No such file or directory\n")


@pytest.mark.matrix_only
def test_an_upgrade_while_hooks_run(managed: Host) -> None:
    """A VM starts and stops all the time while the package is replaced; no hook fails."""
    managed.run("rm -f /tmp/upgraded; cat > /tmp/install-test.xml", PASSING)
    with ThreadPoolExecutor() as pool:
        evening = pool.submit(managed.run, EVENING)
        try:
            for install in (OTHER, INSTALL) * effort(1, 2):
                assert f"write {HOOKS}/qemu" in managed.run(f"{install} {QUICKLY}")
        finally:
            managed.run("touch /tmp/upgraded")
        lines = evening.result().splitlines()
    assert set(lines) == {"done"}
    assert managed.run(DRIVER).strip() == DRIVERS[NIC]


@pytest.mark.matrix_only
def test_a_vm_that_started_before_an_upgrade_ends_after_it(managed: Host) -> None:
    managed.event("prepare begin")
    managed.run(f"{OTHER} {QUICKLY}")
    assert managed.run(DRIVER).strip() == "vfio-pci"
    managed.event("release end")
    assert managed.run(DRIVER).strip() == DRIVERS[NIC]


@pytest.mark.matrix_only
def test_a_broken_package_is_told_and_mended(managed: Host) -> None:
    managed.run(f"find {LIBRARIES} -name dispatch.py -exec rm {{}} +")
    told = managed.event("prepare begin", check=False)
    assert told.count("\n") == 1
    assert "run its install.sh again" in told
    assert "install the package again" in managed.run(f"{INSTALL} {QUICKLY}")
    managed.event("prepare begin")
    managed.event("release end")
    assert managed.run(DRIVER).strip() == DRIVERS[NIC]
