"""What the hook costs: `python3 -m tests.bench.hook`, as root, out of the checkout.

Whole processes, each pair in turns in one run. The host is a folder bound over /sys in a mount
namespace, so kernel time is not in these figures; tests/bench/cost.py has it.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench.pairs import Command, compare
from tests.hosttree import domain_xml, gpu_host
from tests.sealed import CHECKOUT, Sealed

HOOK = "/etc/libvirt/hooks/qemu"
PYTHON = "/usr/bin/python3"
# The writes of a prepare with managed='no' to a host whose drivers all let go at once.
SHELL = """
for f in 0 1 2; do
    d=/sys/bus/pci/devices/0000:04:00.$f
    echo vfio-pci > $d/driver_override
    echo 0000:04:00.$f > /sys/bus/pci/drivers_probe
done
"""


def inside(turns: int) -> None:
    """The measurements, in the namespace."""
    state = Path("/run/vfio-hooks")

    def forget() -> None:
        shutil.rmtree(state, ignore_errors=True)

    floor = Command("python3 -I -S -c pass", [PYTHON, "-I", "-S", "-c", "pass"])
    print("\nAn event of a VM that is not managed")
    compare(
        [
            floor,
            Command("hook, unmanaged VM, prepare", [HOOK, "other", "prepare", "begin", "-"]),
            Command("hook, unmanaged VM, release", [HOOK, "other", "release", "end", "-"]),
        ],
        turns,
    )
    print("\nThe events of a VM with three managed functions")
    xml = "/run/domain.xml"
    prepare = [HOOK, "win11", "prepare", "begin", "-"]

    def prepared() -> None:
        forget()
        os.system(f"{' '.join(prepare)} < {xml}")

    compare(
        [
            floor,
            Command("the same writes in a shell loop", ["/bin/sh", "-c", SHELL]),
            Command("prepare", prepare, xml, forget),
            Command("start", [HOOK, "win11", "start", "begin", "-"], xml),
            Command("release", [HOOK, "win11", "release", "end", "-"], xml, prepared),
        ],
        turns,
    )
    print("\nWhere a prepare's time goes (milliseconds of import, of the ten dearest)")
    trace = f"{PYTHON} -X importtime -IS {HOOK} win11 prepare begin - < {xml} 2>&1"
    lines = [line.split("|") for line in os.popen(trace) if line.startswith("import time:")]
    costs = [(int(cost), name.strip()) for _, cost, name in lines[1:]]
    for cost, name in sorted(costs, reverse=True)[:10]:
        print(f"{name:44}{cost / 1000:>12.1f}")


def main(turns: int = 40) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        sealed = Sealed(gpu_host(root))
        sealed.manage("win11")
        # As install.sh leaves it: compiled, and not writable by a hook that is not root.
        library = root / "run/library"
        shutil.copytree(CHECKOUT / "vfio_hooks", library / "vfio_hooks")
        sealed.install(Path("/run/library"))
        sealed.run(PYTHON, "-m", "compileall", "-q", "/run/library")
        # Nobody reads this log; its queue would fill and be waited for.
        (root / "run/systemd/journal/socket").unlink()
        (root / "run/domain.xml").write_text(domain_xml())
        code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r});"
        code += f"from tests.bench.hook import inside; inside({turns})"
        result = sealed.run(PYTHON, "-c", code, seconds=600)
        sys.stdout.write(result.stdout.decode())
        sys.stderr.write(result.stderr)
        sys.exit(result.code)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
