"""Scripts run by hand, and the vm.toml that `migrate` makes of them: the host has the same values
while the VM runs, and with vm.toml its own again afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm.direct import HOOKS
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP, SRIOV_PF
from vfio_hooks.event import OPERATIONS
from vfio_hooks.rehearse.compared import changes, difference
from vfio_hooks.rehearse.observed import State

pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NAME = "migrated"
BY_HAND = "/tmp/by-hand"
VF = "0000:08:10.2"  # number 1 of igb's


@dataclass(frozen=True)
class Pair:
    """Files of tests/scripts, the words in them that are others on this host, the VM, and what
    these scripts leave changed when they are run by hand. `besides` are the first words of what
    the tables change and the scripts do not; `kept` are scripts that stay, as no table does all of
    their work, and `kept_back` undoes that part."""

    scripts: tuple[str, ...]
    words: dict[str, str]
    domain: Domain
    put_back: str
    besides: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()
    kept_back: str = ":"


FOUR = {"vcpus": 4, "pins": {0: "4", 1: "5", 2: "6", 3: "7"}}
PAIRS = {
    "one card": Pair(
        ("tools-gpu-start", "tools-gpu-end"),
        {"sleep 10": ":", "pci_0000_0a_00": "pci_0000_04_00"},
        Domain(NAME, tuple(map(HostDevice, GPU_GROUP))),
        "echo 1 > /sys/class/vtconsole/vtcon1/bind; rm /etc/libvirt/hooks/kvm.conf",
    ),
    "CPUs and sysctls": Pair(
        ("isolate-systemd",),
        {"0-3,8-11": "0-3", "fff >": "0f >", "init.slice": "init.scope"},
        Domain(NAME, memory=256, **FOUR),  # type: ignore[arg-type]
        "for unit in user.slice system.slice init.scope; do"
        " systemctl set-property --runtime $unit AllowedCPUs=; done;"
        " systemctl revert user.slice system.slice init.scope;"
        " echo ff > /sys/bus/workqueue/devices/writeback/cpumask;"
        " echo always > /sys/kernel/mm/transparent_hugepage/enabled;"
        " sysctl vm.stat_interval=1 kernel.watchdog=1",
        frozenset({"task", "file"}),
    ),
    "pages": Pair(
        ("hugepages", "hugepages-end"),
        {"MEMORY=16384": "MEMORY=256"},
        Domain(NAME, memory=256, hugepages=2048),
        ":",
    ),
    "network card": Pair(
        ("sriov",),
        {},
        Domain(NAME, (HostDevice(VF),)),
        "ip link set CARD down; echo 0 > /sys/class/net/CARD/device/sriov_numvfs; udevadm settle",
        kept=("prepare/begin/sriov.sh",),
        kept_back="ip link set CARD down",
    ),
}


def texts(guest: Guest, pair: Pair) -> dict[str, str]:
    """The scripts as they are on this host, by their place in the VM's folder."""
    card = network_card(guest)
    found = {}
    for name in pair.scripts:
        text = re.sub(r" #> .*", "", (SCRIPTS / f"{name}.sh").read_text())
        for old, new in {**pair.words, "enp7s0f1": card}.items():
            text = text.replace(old, new)
        op = text.partition("#op ")[2].split()[0]
        found[f"{op}/{OPERATIONS[op]}/{name}.sh"] = text
    return found


def by_hand(guest: Guest, op: str) -> None:
    """Run the scripts of an operation as their user would."""
    folder = f"{BY_HAND}/{op}/{OPERATIONS[op]}"
    line = f"for one in {folder}/*; do bash $one {NAME} {op} {OPERATIONS[op]} -; done"
    guest.run(f"[ ! -d {folder} ] || {{ {line}; }}", check=False)


def run_by_hand(guest: Guest, pair: Pair) -> State:
    by_hand(guest, "prepare")
    guest.start(NAME)
    by_hand(guest, "started")
    seen = guest.snapshot()
    guest.destroy(NAME)
    by_hand(guest, "release")
    put_back(guest, pair.put_back)
    return seen


def network_card(guest: Guest) -> str:
    return guest.run(f"ls /sys/bus/pci/devices/{SRIOV_PF}/net").stdout.strip()


def put_back(guest: Guest, line: str) -> None:
    guest.run(line.replace("CARD", network_card(guest)))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_same_values_while_the_vm_runs(hooked: Guest, pair: Pair) -> None:
    home = f"{HOOKS}/qemu.d/{NAME}"
    hooked.put(
        f"{HOOKS}/kvm.conf",
        "VIRSH_GPU_VIDEO=pci_0000_04_00_0\nVIRSH_GPU_AUDIO=pci_0000_04_00_1\n",
    )
    hooked.define(pair.domain)
    scripts = texts(hooked, pair)
    try:
        before = hooked.snapshot()
        for path, text in scripts.items():
            hooked.put(f"{BY_HAND}/{path}", text, "0755")
        hand = run_by_hand(hooked, pair)
        assert difference(before, hooked.snapshot()) == []

        hooked.run(f"mkdir {home}; cp -r {BY_HAND}/. {home}")
        print(hooked.run(f"vfio-hooks migrate {NAME} --write --yes").stdout)
        hooked.start(NAME)
        ours = hooked.snapshot()
        hooked.destroy(NAME)
        put_back(hooked, pair.kept_back)
        after = hooked.snapshot()
        left = hooked.run(f"cd {home}; find . -path ./.migrated -prune -o -name '*.sh' -print")
    finally:
        hooked.remove(NAME)
        hooked.run(f"rm -rf {home} {BY_HAND} {HOOKS}/kvm.conf")
    done = changes(before, hand)
    print(*difference(before, hand), "", *difference(before, ours), sep="\n")
    assert {key: how for key, how in changes(hand, ours).items() if key in done} == {}
    more = {key.split()[0] for key in changes(before, ours).keys() - done.keys()}
    assert more <= pair.besides | {"left", "unit"}
    assert difference(before, after) == []
    assert left.stdout.split() == [f"./{path}" for path in pair.kept]
