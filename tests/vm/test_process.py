"""The process plugin with the real systemd, libvirt and AppArmor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import HOOKS
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.release import USER
from vfio_hooks.wait import until

# It tells all that it is and has, and then runs on with a child.
HELPER = """\
#!/bin/bash
exec > /tmp/helper/"$1"
id --user --name; pwd; cat /proc/self/attr/current; cut --delimiter=: --fields=3 /proc/self/cgroup
readlink /proc/self/fd/0 /proc/self/fd/2
printf '%s\\n' "$VFIO_HOOKS_VM" "$GREETING" "$@"
sleep infinity & wait
"""
TOML = f"""\
[inhibit]

[[process]]
command = ["/usr/local/bin/helper", "first", "$HOME %n", 'a "b"\\\\']
user = "{USER}"
environment = {{ GREETING = "two words $HOME" }}

[[process]]
command = "/usr/local/bin/helper early"
user = "root"
when = "prepare"
name = "early"
folder = "/usr"

[[process]]
command = ["sh", "-c", "echo out of order; exit 3"]
user = "{USER}"
name = "broken"
"""
NAME = "my-vm 1"
UNITS = "systemctl list-units --all --plain --no-legend 'vfio-hooks-*' | cut -d' ' -f1 | sort"


@pytest.fixture
def vm(hooked: Guest) -> Iterator[Domain]:
    hooked.put("/usr/local/bin/helper", HELPER, "0755")
    hooked.run(f"install -d -o {USER} /tmp/helper")
    domain = Domain(NAME)
    hooked.put(f"{HOOKS}/qemu.d/{NAME}/vm.toml", TOML)
    hooked.define(domain)
    yield domain
    hooked.remove(NAME)
    hooked.run(f"rm -rf /tmp/helper /usr/local/bin/helper '{HOOKS}/qemu.d/{NAME}'")


def units(guest: Guest) -> list[str]:
    return guest.run(UNITS).stdout.split()


def test_a_helper_for_the_life_of_a_vm(hooked: Guest, vm: Domain) -> None:
    hooked.start(NAME)
    unit = r"vfio-hooks-my\x2dvm\x201-{}.service"
    there = sorted(
        [
            unit.format("helper"),
            unit.format("early"),
            f"vfio-hooks-life-{vm.uuid}.service",
            f"vfio-hooks-inhibit-{vm.uuid}.service",
        ]
    )
    hooked.wait("test $(cat /tmp/helper/first | wc -l) = 11")
    hooked.wait("test $(cat /tmp/helper/early | wc -l) -ge 2")
    cgroup = f"/system.slice/{unit.format('helper')}"
    assert hooked.read("/tmp/helper/first").splitlines() == [
        *(USER, f"/home/{USER}", "unconfined", cgroup, "/dev/null"),
        hooked.read("/tmp/helper/first").splitlines()[5],
        *(NAME, "two words $HOME", "first", "$HOME %n", 'a "b"\\\\'),
    ]
    assert hooked.read("/tmp/helper/first").splitlines()[5].startswith("socket:")
    assert hooked.read("/tmp/helper/early").splitlines()[:2] == ["root", "/usr"]
    # The one that ended at once with an error: told, and the VM runs.
    assert hooked.virsh("domstate", NAME).stdout.strip() == "running"
    broken = unit.format("broken")
    hooked.wait(f"vfio-hooks log '{NAME}' | grep --fixed-strings --quiet '{broken} ended'")
    until(lambda: units(hooked) == there, 180)
    assert units(hooked) == there
    log = hooked.run(f"vfio-hooks log '{NAME}'").stdout
    assert f"{broken} ended: exit code 3" in log
    own = hooked.run(f"journalctl --sync; journalctl -o cat -u '{broken}'").stdout
    assert "out of order" in own
    lock = f"vfio-hooks-inhibit-{vm.uuid}.service"
    hooked.run(f"systemctl kill --signal=KILL {lock}")
    hooked.wait(f"systemctl show --property=NRestarts {lock} | grep --quiet =1")
    hooked.wait("systemd-inhibit --list | grep --quiet vfio-hooks")
    print(log, hooked.run("vfio-hooks status").stdout, sep="\n")
    hooked.destroy(NAME)
    assert units(hooked) == []
    hooked.run("! pgrep --full [/]usr/local/bin/helper")


@pytest.mark.matrix_only
def test_a_crash_of_qemu_while_libvirt_is_away(hooked: Guest, vm: Domain) -> None:
    hooked.start(NAME)
    sockets = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
    hooked.run(f"systemctl stop {sockets} libvirtd.service")
    try:
        _kill(hooked)
    finally:
        hooked.run(f"systemctl start {sockets} libvirtd.service")
    hooked.wait("virsh list > /dev/null && ! ls /run/vfio-hooks/*.journal")


def _kill(hooked: Guest) -> None:
    hooked.wait(f'[ "$({UNITS} | wc -l)" = 4 ]')
    hooked.run(f"kill -9 $(cat '/run/libvirt/qemu/{NAME}.pid')")
    hooked.wait(f'[ -z "$({UNITS})" ]')
    hooked.run("! pgrep --full [/]usr/local/bin/helper")


@pytest.mark.matrix_only
def test_what_cannot_be_executed(hooked: Guest, vm: Domain) -> None:
    table = '[inhibit]\n[[process]]\nuser = "{}"\ncommand = "{}"\n'
    hooked.put("/root/secret", "#!/bin/sh\n", "0755")
    for user, command, words in (
        (USER, "/usr/local/bin/nonesuch", "/usr/local/bin/nonesuch: there is no such file"),
        (USER, "nonesuch", "nonesuch: no such program"),
        (USER, "/root/secret", f"/root/secret: {USER} may not enter /root"),
        (USER, "/etc/passwd", f"/etc/passwd: {USER} may not execute it"),
        ("nobodi", "true", "there is no user 'nobodi' on this host; did you mean nobody?"),
    ):
        hooked.put(f"{HOOKS}/qemu.d/{NAME}/vm.toml", table.format(user, command))
        failed = hooked.start(NAME, check=False)
        assert words in failed.stderr
        assert units(hooked) == []
    hooked.run("rm /root/secret")
