"""What `vfio-hooks check` costs beyond interpreter and imports: `python3 -m tests.bench.check`.

The host has 256 CPUs, 1,000 interrupts and 128 PCI functions, the domain 64 pinned vCPUs and a
graphics card. It is to take less than a second.
"""

import cProfile
import io
import pstats
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.scale import build
from tests.patient import function, grow, patient, win11
from vfio_hooks.check import examine, rules

CPUS, IRQS, SLOTS = 256, 1000, 128
LIMIT = 1.0


def main() -> int:
    pins = "".join(f"<vcpupin vcpu='{one}' cpuset='{one + 64}'/>" for one in range(64))
    xml = win11(f"<cputune>{pins}</cputune>", ("0000:04:00.0",))
    xml = xml.replace("<vcpu>2</vcpu>", "<vcpu>64</vcpu>")
    rules()  # imports them
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        build(root, CPUS, IRQS)
        for slot in range(SLOTS):
            grow(root, function(f"0000:{slot:02x}:00.0", "0x030000", "amdgpu", str(slot)))
        asked = patient(root, xml)
        profile = cProfile.Profile() if "--profile" in sys.argv else None
        started = time.perf_counter()
        found = profile.runcall(examine, asked) if profile else examine(asked)
        seconds = time.perf_counter() - started
    print(f"{len(rules())} rules, {len(found)} findings: {seconds:.3f} s, at most {LIMIT:g}")
    if profile:
        told = io.StringIO()
        pstats.Stats(profile, stream=told).sort_stats("cumulative").print_stats(25)
        print(told.getvalue())
    return int(seconds > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
