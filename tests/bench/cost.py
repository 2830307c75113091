"""What the hook adds to `virsh start` and `virsh destroy`: `python3 -m tests.bench.cost`, as root.

In an emulated host, with real libvirt, a VM with the three functions of a graphics card starts
and stops, in turns without a hook, with one that does not manage it, and with ones that do.
"""

import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.vm import saved
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP

FOLDER = "/etc/libvirt/hooks/qemu.d/cost"
HOOK = "/etc/libvirt/hooks/qemu"
ALL = "[pci]\n[hugepages]\n[memory]\n[cpus]\n[irqs]\n[governor]\n"
# libvirt looks at the hook's permission to be executed before every call.
VARIANTS = {
    "no hook": f"chmod a-x {HOOK}",
    "hook, VM not managed": f"chmod a+x {HOOK}; rm -rf {FOLDER}",
    "[pci]": f"chmod a+x {HOOK}; mkdir -p {FOLDER}; echo '[pci]' > {FOLDER}/vm.toml",
    "six tables": f"chmod a+x {HOOK}; mkdir -p {FOLDER}; printf '{ALL}' > {FOLDER}/vm.toml",
}
EVENING = """\
import json, subprocess, time
spent = []
for verb in ("start", "destroy"):
    began = time.monotonic()
    subprocess.run(["virsh", "--quiet", verb, "cost"], check=True, timeout=300)
    spent.append(time.monotonic() - began)
print(json.dumps(spent))
"""


@contextmanager
def emulated_host(suite: str) -> Iterator[Guest]:
    """One with vfio-hooks installed, ended afterwards."""
    started = saved.resume(suite, f"bench-{os.getpid()}-{suite}")
    try:
        guest = Guest(started)
        yield guest
    finally:
        started.stop()


def main(turns: int = 5, suite: str = "trixie") -> None:
    domain = Domain(
        "cost", tuple(map(HostDevice, GPU_GROUP)), vcpus=2, pins={0: "4", 1: "5"}, hugepages=2048
    )
    spent: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    with emulated_host(suite) as guest:
        guest.define(domain)
        # The domain is on huge pages, which the variants without [hugepages] need as well.
        guest.run("echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
        for turn in range(turns + 1):
            for name, prepare in VARIANTS.items():
                guest.run(prepare)
                seconds = json.loads(guest.run("python3 -", input=EVENING, timeout=600).stdout)
                if turn:  # the first warms up
                    spent[name].append(seconds)
    print(f"{'':28}{'start s':>10}{'%':>8}{'destroy s':>12}{'%':>8}")
    floor = spent["no hook"]
    for name, turns_of in spent.items():
        cells = []
        for column in (0, 1):
            ratios = [one[column] / zero[column] for one, zero in zip(turns_of, floor, strict=True)]
            cells.append(statistics.median(one[column] for one in turns_of))
            cells.append(100 * (statistics.median(ratios) - 1))
        print(f"{name:28}{cells[0]:>10.1f}{cells[1]:>+8.0f}{cells[2]:>12.1f}{cells[3]:>+8.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5, *sys.argv[2:3])
