"""What `topology` and `iommu` cost on a large host: `python3 -m tests.bench.picture`.

A host of 256 CPUs, 1,000 interrupts and 200 PCI functions, as a folder of plain files. The time is
that of the verb alone, without the interpreter's start and the imports.
"""

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

from tests.hosttree import add_pci, domain_xml
from tests.shapes import regular
from vfio_hooks.cli import main as command

CPUS, INTERRUPTS, FUNCTIONS, TURNS = 256, 1000, 200, 5


def build(root: Path) -> None:
    regular(2, 4, 2, 8, 2).write(root)
    lines = [" ".join(f"CPU{cpu}" for cpu in range(CPUS))]
    counts = " ".join(str(cpu * 1000) for cpu in range(CPUS))
    lines += [f"{number}: {counts} PCI-MSI {number}-edge nvme" for number in range(INTERRUPTS)]
    (root / "proc/interrupts").write_text("\n".join(lines) + "\n")
    for number in range(FUNCTIONS):
        add_pci(root, f"0000:{number:02x}:00.0", "nvme", str(number))
    pins = "".join(f"<vcpupin vcpu='{one}' cpuset='{one + 32}'/>" for one in range(32))
    domains = root / "etc/libvirt/qemu"
    domains.mkdir(parents=True)
    xml = domain_xml(more=f"<vcpu>32</vcpu><cputune>{pins}</cputune>")
    (domains / "win11.xml").write_text(xml)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        build(Path(folder))
        print(f"{'':24}{'median s':>10}{'slowest s':>11}")
        for words in (("topology",), ("topology", "--svg", f"{folder}/host.svg"), ("iommu",)):
            spent = []
            for _ in range(TURNS + 1):
                started = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    code = command([*words, "--root", folder])
                spent.append(time.perf_counter() - started)
                if code:
                    raise RuntimeError(f"{words}: exit {code}")
            # The first turn imports.
            name = " ".join(words[:2])
            print(f"{name:24}{statistics.median(spent[1:]):>10.3f}{max(spent[1:]):>11.3f}")


if __name__ == "__main__":
    main()
