"""The hugepages plugin on two nodes of 2 GiB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest

SMALL, LARGE = 2048, 1 << 20
POOL = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB"
FILE = f"{POOL}/nr_hugepages"
HOLD = """
import mmap, signal
size, hugetlb = 2 << 20, 0x40000
pages = mmap.mmap(-1, 9 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | hugetlb)
for start in range(0, len(pages), size):
    pages[start] = 1
open("/tmp/held", "w").close()
signal.pause()
"""
LET_GO = "systemctl stop holder; rm -f /tmp/held /tmp/hold.py"


@pytest.fixture
def host(hooked: Guest) -> Iterator[Guest]:
    """A host with a static pool of three pages on node 0."""
    hooked.run(f"echo 3 > {FILE.format(0)}")
    yield hooked
    hooked.run(f"echo 0 > {FILE.format(0)}")


@pytest.fixture
def vms(host: Guest) -> Iterator[Direct]:
    direct = Direct(host)
    yield direct
    host.run(LET_GO, check=False)
    direct.forget()


def pools(guest: Guest) -> tuple[int, ...]:
    """Pages of 2 MiB on each node."""
    return tuple(map(int, guest.run(f"cat {FILE.format('?')}").stdout.split()))


def test_vms_and_a_stranger_on_the_same_nodes(vms: Direct) -> None:
    vms.manage(Domain("near", memory=64, hugepages=SMALL, nodes="0"), "[hugepages]")
    vms.manage(Domain("wide", memory=62, hugepages=SMALL, nodes="0-1"), "[hugepages]")
    vms.manage(Domain("pinned", memory=16, hugepages=SMALL, pins={0: "5"}), "[hugepages]")
    assert vms.start("near") == ""
    assert pools(vms.guest) == (35, 0)
    assert vms.start("wide") == ""
    assert pools(vms.guest) == (51, 15)
    vms.guest.run(f"echo 20 > {FILE.format(1)}")
    vms.stop("near")
    assert pools(vms.guest) == (19, 20)
    assert vms.start("pinned") == ""
    assert pools(vms.guest) == (19, 28)
    vms.stop("wide")
    assert pools(vms.guest) == (3, 13)
    vms.stop("pinned")
    assert pools(vms.guest) == (3, 5)
    vms.guest.run(f"echo 0 > {FILE.format(1)}")


@pytest.mark.matrix_only
def test_pages_that_a_program_still_uses_go_when_it_ends(vms: Direct) -> None:
    """And do not confuse what is counted on the other node, as Linux 6.1 would."""
    guest = vms.guest
    guest.put("/tmp/hold.py", HOLD)
    vms.manage(Domain("near", memory=16, hugepages=SMALL, nodes="0"), "[hugepages]")
    vms.manage(Domain("far", memory=16, hugepages=SMALL, nodes="1"), "[hugepages]")
    assert vms.start("near") == ""
    guest.start_unit("holder", "python3 /tmp/hold.py")
    guest.wait("test -e /tmp/held")
    vms.stop("near")
    assert pools(guest) == (9, 0)
    assert guest.read(f"{POOL.format(0)}/surplus_hugepages").strip() == "6"
    assert vms.start("far") == ""
    assert pools(guest) == (9, 8)
    guest.run(LET_GO)
    assert pools(guest) == (3, 8)
    vms.stop("far")
    assert pools(guest) == (3, 0)


@pytest.mark.matrix_only
def test_too_few_pages_are_told_and_given_back(vms: Direct) -> None:
    """The kernel keeps some of each node's memory, and has none of 1 GiB in one piece."""
    options = "[hugepages]\ntimeout = 0"
    info = vms.guest.run("grep MemTotal /sys/devices/system/node/node1/meminfo").stdout
    pages = int(info.split()[3]) // SMALL
    vms.manage(Domain("huge", memory=2 * pages, hugepages=SMALL, nodes="1"), options)
    vms.manage(Domain("large", memory=1024, hugepages=LARGE, nodes="0"), options)
    vms.manage(Domain("vast", memory=4096, hugepages=SMALL, nodes="1"), options)
    told = vms.start("huge")
    assert "node 1: only " in told
    assert f" of {pages} hugepages of 2 MiB could be made within 0 s (" in told
    assert "are free" in told
    # The CPU model of Debian 12's guest has no pages of 1 GiB.
    has_large = vms.guest.run("ls /sys/kernel/mm/hugepages").stdout.count("hugepages-") == 2
    none = "node 0: only 0 of 1 hugepages of 1" if has_large else "asks for pages of 1 GiB; this"
    assert none in vms.start("large")
    assert "needs 4 GiB on node 1, which has" in vms.start("vast")
    assert pools(vms.guest) == (3, 0)


@pytest.mark.matrix_only
def test_a_domain_really_starts_on_them(host: Guest) -> None:
    """Pinned, and without <numatune>: with it, AppArmor of Debian 12 keeps QEMU 7.2 from reading
    which CPUs a node has, and no domain on hugepages starts there."""
    vm = Domain("real", memory=64, hugepages=SMALL, pins={0: "5"})
    host.put(f"/etc/libvirt/hooks/qemu.d/{vm.name}/vm.toml", "[hugepages]\n")
    host.define(vm)
    try:
        host.start(vm.name)
        assert pools(host) == (3, 32)
        free = host.run(f"cat {POOL.format('?')}/free_hugepages").stdout.split()
        assert sum(map(int, free)) == 3, "all but the static pool's three are the VM's"
        host.destroy(vm.name)
        assert pools(host) == (3, 0)
    finally:
        host.remove(vm.name)
        host.run(f"rm -rf /etc/libvirt/hooks/qemu.d/{vm.name}")
