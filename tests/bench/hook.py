"""What an event costs: `python3 -m tests.bench.hook [TURNS [AN OLDER CHECKOUT]]`.

Whole processes, with all that they start, in turns of one run: events of a VM that is not managed,
and of one that is, on a host of 16 CPUs which is a folder of plain files; so the kernel's own time
is not in these figures, but it is in those of tests/bench/cost.py. Each is compared with a
dispatcher in bash that does what the one of VFIO-Tools does, for a VM that it has nothing for.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.pairs import Command, compare
from tests.bench.scale import build, put
from tests.hosttree import domain_xml, gpu_host
from vfio_hooks.engine.disk import Disk
from vfio_hooks.engine.journal import Journal
from vfio_hooks.knobs.file import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

CHECKOUT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
OPS = ("prepare", "start", "started", "stopped", "release")
TABLES = {
    "pci, governor, hugepages": "[pci]\n[governor]\n[hugepages]\n",
    "pci, cpus, irqs, governor, hugepages": "[pci]\n[cpus]\n[irqs]\n[governor]\n[hugepages]\n",
}
PAGES = (
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB",
    "sys/kernel/mm/hugepages/hugepages-2048kB",
)
MORE = (
    "<memory unit='KiB'>65536</memory><memoryBacking><hugepages/></memoryBacking>"
    "<numatune><memory mode='strict' nodeset='0'/></numatune><vcpu>4</vcpu><cputune>"
    + "".join(f"<vcpupin vcpu='{cpu}' cpuset='{cpu + 8}'/>" for cpu in range(4))
    + "</cputune>"
)
RIVAL = """#!/bin/bash
guest=$1 operation=$2 stage=$3
xml=$(cat)
place=$(dirname "$0")/qemu.d/$guest/$operation/$stage
if [ -f "$place" ]; then
    "$place" "$@" <<< "$xml"
elif [ -d "$place" ]; then
    find -L "$place" -maxdepth 1 -type f -executable -print | sort | while read -r program; do
        "$program" "$@" <<< "$xml"
    done
fi
"""


@dataclass(frozen=True)
class Installed:
    """A version of vfio-hooks with a host, a configuration and a state of its own below `root`."""

    name: str
    root: Path

    @property
    def hook(self) -> Path:
        return self.root / "etc/libvirt/hooks/qemu"

    @property
    def state(self) -> Path:
        return self.root / "run/vfio-hooks"

    def event(self, vm: str, op: str, name: str = "") -> Command:
        subop = "end" if op in ("stopped", "release") else "begin"
        argv = [str(self.hook), vm, op, subop, "-"]
        return Command(f"{self.name}{name or op}", argv, str(self.root / "domain.xml"))


_LED = ("vfio_hooks/__init__.py", "vfio_hooks/dispatch.py")
"""The modules that name folders of the host."""


def install(checkout: Path, root: Path, name: str, tables: str) -> Installed:
    """Put a checkout below a root, with every path in it led there."""
    build(gpu_host(root), 16, 60)
    for folder in PAGES:
        for file in ("nr_hugepages", "free_hugepages", "surplus_hugepages", "resv_hugepages"):
            put(root, f"{folder}/{file}", "0")
    put(root, "sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 16777216 kB")
    put(root, "proc/meminfo", "MemTotal: 16777216 kB\nHugepagesize: 2048 kB")
    put(root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids")
    put(root, "sys/devices/virtual/workqueue/cpumask", "ffff")
    (root / "run/systemd/system").mkdir(parents=True)
    put(root, "domain.xml", domain_xml(more=MORE))
    put(root, "etc/libvirt/hooks/qemu.d/win11/vm.toml", tables)
    put(root, "run/libvirt/qemu/win11.xml", "<domstatus/>")
    library = root / "library"
    shutil.copytree(checkout / "vfio_hooks", library / "vfio_hooks")
    for source, target in (
        (checkout / "hooks/qemu", root / "etc/libvirt/hooks/qemu"),
        *((checkout / name, library / name) for name in _LED),
    ):
        text = source.read_text().replace("/usr/local/lib/vfio-hooks", str(library))
        for folder in ("/etc/libvirt/hooks", "/run/vfio-hooks", "/run/libvirt/qemu"):
            text = text.replace(folder, f"{root}{folder}")
        target.write_text(text.replace('STATE, "/")', f'STATE, "{root}")'))
    subprocess.run([PYTHON, "-m", "compileall", "-q", str(library)], check=True)
    installed = Installed(name, root)
    installed.hook.chmod(0o755)
    for path in (root / "etc").rglob("*"):
        os.utime(path, (0, 0))
    return installed


def fill(installed: Installed, vms: int, claims: int) -> None:
    """Journals of other VMs that run."""
    installed.state.mkdir(mode=0o700, exist_ok=True)
    for number in range(vms):
        uuid = f"00000000-0000-0000-0000-{number:012}"
        journal = Journal(f"{installed.state}/{uuid}.journal", uuid, f"vm{number}", Disk())
        journal.begin("prepare", number * claims + 1)
        for claim in range(claims):
            step = Step("write", File(f"/sys/{number}/{claim}"), Override("1"))
            journal.claim(number * claims + claim + 1, "prepare", 0, step, "0")
        journal.end()
        put(installed.root, f"run/libvirt/qemu/vm{number}.xml", "<domstatus/>")


def idle(new: Installed, folder: Path, turns: int) -> None:
    """What has nothing to do, beside the other dispatcher."""
    rival = folder / "rival"
    rival.write_text(RIVAL)
    rival.chmod(0o755)
    compare(
        [
            Command("the dispatcher in bash", [str(rival), "other", "prepare", "begin", "-"]),
            Command("python3 -IS -c pass", [PYTHON, "-IS", "-c", "pass"]),
            new.event("other", "prepare", "not managed, prepare"),
            new.event("other", "release", "not managed, release"),
            new.event("win11", "prepare", "managed, prepare"),
            new.event("other", "stopped", "not managed, stopped, beside it"),
            new.event("win11", "start", "managed, start"),
            new.event("win11", "stopped", "managed, stopped"),
            new.event("win11", "release", "managed, release"),
        ],
        turns,
    )


def evenings(versions: list[Installed], turns: int) -> None:
    """All five events of a VM's run, by one version or by two."""
    spent = compare([one.event("win11", op) for one in versions for op in OPS], turns)
    if len(versions) > 1:
        ratios = [sum(turn[: len(OPS)]) / sum(turn[len(OPS) :]) for turn in spent]
        print(f"all five, new to old: {statistics.median(ratios):.2f}", flush=True)


def main(turns: str = "7", older: str = "") -> None:
    checkouts = {"": CHECKOUT, **({"old: ": Path(older)} if older else {})}
    print(f"/bin/sh is {os.path.realpath('/bin/sh')}")
    for title, tables in TABLES.items():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            versions = [
                install(path, Path(folder) / (name or "new"), name, tables)
                for name, path in checkouts.items()
            ]
            if "cpus" not in title:
                print("\nAn event with nothing to do", flush=True)
                idle(versions[0], Path(folder), int(turns))
            print(f"\nA VM with {title}", flush=True)
            evenings(versions, int(turns))
            for version in versions:
                fill(version, vms=20, claims=1000)
            print("\nThe same beside 20 VMs of 1000 values each", flush=True)
            evenings(versions, max(3, int(turns) // 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
