"""The cpus plugin without systemd's help, on real kernels: cgroup v1, and cgroup v2 alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.vm import build, machine
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import Hardware
from tests.vm.test_cpus import FIRST, SECOND
from vfio_hooks.rehearse.compared import difference

# Where each program is, and what each CPU set says, booleans and all.
LOOK = """\
import json, os, sys
from pathlib import Path
top, found = sys.argv[1], {}
for folder in Path("/proc").glob("[0-9]*"):
    try:
        name = (folder / "comm").read_text().strip()
        group = (folder / "cgroup").read_text()
        status = (folder / "status").read_text()
    except OSError:
        continue
    cpus = status.partition("Cpus_allowed_list:")[2].split()[0]
    if name in ("sleep", "libvirtd", "systemd", "irqbalance"):
        found[f"{name} {folder.name}"] = group + cpus
for folder, _, files in os.walk(top):
    for file in files:
        if file.startswith("cpuset.") and "pressure" not in file and "machine" not in folder:
            found[f"{folder}/{file}"] = Path(folder, file).read_text().strip()
print(json.dumps(found))
"""
HIDDEN = "unshare -m sh -c 'mount -t tmpfs none /run/systemd && exec {}'"
"""Runs the hook where nothing says that systemd is there."""


def look(guest: Guest, top: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(guest.run(f"python3 - {top}", input=LOOK).stdout)
    return found


def programs(found: dict[str, str]) -> set[str]:
    """The CPUs that the host's programs may use."""
    return {text.split()[-1] for name, text in found.items() if not name.startswith("/")}


@pytest.fixture
def old_host(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """Debian 12 with cgroup v1; a boot of its own."""
    chosen = request.config.getoption("--guest", None)
    if chosen not in (None, "bookworm"):
        pytest.skip(f"{chosen} has no cgroup v1 any more")
    wanted = Hardware(kernel_arguments=("systemd.unified_cgroup_hierarchy=0",))
    started = machine.boot(build.image("bookworm"), f"pytest-{os.getpid()}-v1", wanted=wanted)
    try:
        guest = Guest(started)
        guest.calm()
        guest.install()
        yield guest
    finally:
        started.stop()


@pytest.mark.vm
@pytest.mark.matrix_only
@pytest.mark.xdist_group("cgroup_v1")
def test_cgroup_v1(old_host: Guest) -> None:
    """Two VMs that share a CPU, a group with booleans of its own, and a real QEMU."""
    guest, top = old_host, "/sys/fs/cgroup/cpuset"
    direct = Direct(guest)
    guest.run(
        f"cd {top}; mkdir -p games/inner; for g in games games/inner; do"
        " echo 0-1 > $g/cpuset.mems; done; echo 2-5 > games/cpuset.cpus;"
        " echo 4-5 > games/inner/cpuset.cpus; echo 1 > games/cpuset.memory_migrate;"
        " echo 1 > games/inner/cpuset.mem_hardwall; echo 0 > games/cpuset.sched_load_balance;"
        " sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > games/inner/tasks"
    )
    real = Domain("real", vcpus=2, pins={0: "4", 1: "5"}, emulator_pin="0-1")
    guest.define(real)
    guest.put(f"{HOOKS}/qemu.d/real/vm.toml", "[cpus]\n")
    direct.manage(SECOND, "[cpus]\n")
    before, snapshot = look(guest, top), guest.snapshot()
    guest.start("real")
    found = look(guest, top)
    assert found[f"{top}/vfio-hooks/cpuset.cpus"] == "0-3,6-7"
    assert found[f"{top}/games/cpuset.cpus"] == found[f"{top}/games/inner/cpuset.cpus"] == "2-3"
    assert programs(found) == {"0-3,6-7", "2-3"}
    threads = "grep -h Cpus_allowed_list /proc/$(cat /run/libvirt/qemu/real.pid)/task/*/status"
    lists = guest.run(threads).stdout.replace("Cpus_allowed_list:", "").split()
    assert sorted(set(lists)) == ["0-1", "4", "5"]
    assert direct.start("second") == ""
    assert programs(look(guest, top)) == {"0-3,7", "2-3"}
    guest.run("kill -9 $(cat /run/libvirt/qemu/real.pid)")
    guest.wait('[ "$(ls /run/vfio-hooks/*.journal | wc -l)" = 1 ]')
    assert programs(look(guest, top)) == {"0-4,7", "4"}
    direct.stop("second")
    guest.remove("real")
    assert look(guest, top) == before
    assert not [line for line in difference(snapshot, guest.snapshot()) if "machine" not in line]


@pytest.mark.every_release
def test_cgroup_v2_alone(hooked: Guest) -> None:
    top = "/sys/fs/cgroup"
    direct = Direct(hooked)
    for domain in (FIRST, SECOND):
        direct.manage(domain, "[cpus]\nkernel_threads = false\n")
    hooked.run(
        f"cd {top}; mkdir openrc.sshd; for g in . openrc.sshd; do"
        " sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > $g/cgroup.procs; done"
    )
    try:
        before, control = look(hooked, top), hooked.read(f"{top}/cgroup.subtree_control")

        def hook(name: str, event: str) -> None:
            line = f"{HOOKS}/qemu {name} {event} - < /tmp/direct/{name}.xml"
            assert hooked.run(HIDDEN.format(line)).stderr == ""

        hook("first", "prepare begin")
        assert programs(look(hooked, top)) == {"0-3,6-7"}
        hook("second", "prepare begin")
        assert programs(look(hooked, top)) == {"0-3,7"}
        hook("first", "release end")
        found = look(hooked, top)
        assert programs(found) == {"0-4,7"}
        where = {text.split()[0] for name, text in found.items() if name.startswith("sleep")}
        assert where == {"0::/openrc.sshd", "0::/vfio-hooks"}
        hook("second", "release end")
        assert look(hooked, top) == before
        assert hooked.read(f"{top}/cgroup.subtree_control") == control
    finally:
        hooked.run(f"pkill -x sleep; cd {top}; until rmdir openrc.sshd; do :; done", check=False)
        direct.forget()
