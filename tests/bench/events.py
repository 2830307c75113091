"""What a managed VM's events cost: `python3 -m tests.bench.events [TURNS [AN OLDER CHECKOUT]]`.

The host is a folder bound over /sys and /proc/irq in namespaces of its own, with as many idle
processes as a row says. CPU is user and system time of the whole process tree, and its ratio that
to the older one's in the same turn; instructions are valgrind's, of the first VM only, system calls
and opens strace's, where these are installed. Each row is printed as soon as it is known.
"""

import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.scale import build, put
from tests.hosttree import add_pci, domain_xml, gpu_host
from tests.sealed import CHECKOUT, Sealed
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.knobs.file import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

HOOK = "/etc/libvirt/hooks/qemu"
OLDER = "/etc/libvirt/hooks/older"
STATE = "/run/vfio-hooks"
CGROUP = "/sys/fs/cgroup"
PYTHON = "/usr/bin/python3"
EVENTS = ("prepare", "start", "started", "stopped", "release")
TABLES = """\
[pci]
[cpus]
kernel_threads = false
[irqs]
vectors = false
[governor]
[hugepages]
"""
PINS = "".join(f"<vcpupin vcpu='{one}' cpuset='{one + 8}'/>" for one in range(4))
MORE = (
    f"<memory>1048576</memory><vcpu>4</vcpu><cputune>{PINS}</cputune>"
    "<memoryBacking><hugepages/></memoryBacking>"
)
PAGES = "sys/devices/system/node/node0/hugepages/hugepages-2048kB"
MANY = tuple(f"0000:{slot:02x}:00.0" for slot in range(64, 128))
# What systemctl set-property does, as far as the hook looks.
SYSTEMCTL = f"""#!/bin/sh
[ "$1" = set-property ] || exit 0
mkdir -p "/run/systemd/system.control/$4.d"
echo "${{5#AllowedCPUs=}}" > "/run/systemd/system.control/$4.d/50-AllowedCPUs.conf"
[ "$5" = AllowedCPUs= ] || echo "${{5#AllowedCPUs=}}" > "{CGROUP}/$4/cpuset.cpus"
"""
# The new PID namespace has a /proc of its own, over which the folder's interrupts are bound.
ENTER = f"""\
mount --bind "$1/proc/irq" /proc/irq
mount --bind "$1/systemctl" /usr/bin/systemctl
exec {PYTHON} -c "$2"
"""


@dataclass(frozen=True)
class Cost:
    """What one process tree took: CPU in ms, and that to the older one's; millions of instructions,
    and counts of system calls and opens, 0 where the tool is missing or there is no older one."""

    cpu: float
    ratio: float = 0
    instructions: float = 0
    calls: int = 0
    opens: int = 0


def run(argv: list[str], stdin: str) -> float:
    """The CPU time of one run, in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(stdin, "rb") as file:
        subprocess.run(argv, stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * spent


STRACE = ("strace", "-c", "-f", "-o", "/run/told")
CALLGRIND = ("--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes")
VALGRIND = ("valgrind", *CALLGRIND, "--log-file=/run/told.%p")


def counted(argv: list[str], stdin: str, tool: tuple[str, ...]) -> list[list[str]]:
    """The words of each line that strace -c or valgrind tells; none where it is missing."""
    if not shutil.which(tool[0]):
        return []
    run([*tool, *argv], stdin)
    lines = []
    for told in Path("/run").glob("told*"):
        lines += [line.split() for line in told.read_text().splitlines()]
        told.unlink()
    return lines


def call(hook: str, vm: str, op: str) -> tuple[list[str], str]:
    """libvirt's call of a hook, and the file that is its standard input."""
    subop = "end" if op in ("stopped", "release") else "begin"
    return [hook, vm, op, subop, "-"], f"/run/{vm}.xml"


def evening(hook: str, vm: str) -> list[float]:
    """The CPU time of each event of a VM's run, in ms."""
    return [run(*call(hook, vm, op)) for op in EVENTS]


def counts(vm: str, instructions: bool) -> list[Cost]:
    """What is counted of each event of a VM's run."""
    tables = []
    for op in EVENTS:
        told = counted(*call(HOOK, vm, op), STRACE)
        tables.append(
            {words[-1]: int(words[3]) for words in told if len(words) > 3 and words[3].isdecimal()}
        )
    executed = [0.0 for _ in EVENTS]
    for number, op in enumerate(EVENTS if instructions else ()):
        told = counted(*call(HOOK, vm, op), VALGRIND)
        executed[number] = sum(int(words[-1]) for words in told if "Collected" in words) / 1e6
    return [
        Cost(0, 0, millions, table.get("total", 0), table.get("openat", 0))
        for millions, table in zip(executed, tables, strict=True)
    ]


@contextmanager
def processes(count: int) -> Iterator[None]:
    """A host with at least that many idle processes."""
    there = sum(map(str.isdecimal, os.listdir("/proc")))
    pids = []
    for _ in range(count - there):
        if not (pid := os.fork()):
            signal.pause()
            os._exit(0)
        pids.append(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def show(title: str, cost: Cost) -> None:
    ratio = f"{cost.ratio:.2f}" if cost.ratio else "-"
    print(
        f"{title:52}{cost.cpu:>8.0f}{ratio:>7}{cost.instructions:>10.0f}"
        f"{cost.calls:>10}{cost.opens:>8}",
        flush=True,
    )


def live(title: str, vm: str, turns: int, instructions: bool = False) -> None:
    """All events of a VM."""
    hooks = [HOOK, *([OLDER] if os.path.exists(OLDER) else [])]
    for hook in hooks:
        evening(hook, vm)
    spent = [[evening(hook, vm) for hook in hooks] for _ in range(turns)]
    known = counts(vm, instructions)

    def cost(number: int | None) -> Cost:
        """Of one event, or of all."""
        part = slice(None) if number is None else slice(number, number + 1)
        cpu = [[sum(events[part]) for events in turn] for turn in spent]
        ratios = [turn[0] / turn[1] for turn in cpu if turn[1:]] or [0.0]
        some = known[part]
        return Cost(
            statistics.median(turn[0] for turn in cpu),
            statistics.median(ratios),
            sum(one.instructions for one in some),
            sum(one.calls for one in some),
            sum(one.opens for one in some),
        )

    for number, op in enumerate(EVENTS):
        show(f"{title}: {op}", cost(number))
    show(f"{title}: all five", cost(None))


def crowd(vms: int, claims: int) -> None:
    """Journals of VMs that hold as many values each; every VM shares the first ten with all."""
    folder = StateFolder(STATE)
    folder.prepare()
    number = 0
    for vm in range(vms):
        uuid = f"00000000-0000-0000-0000-{vm:012}"
        journal = folder.create(uuid, f"vm{vm}")
        journal.begin("prepare", number + 1)
        for one in range(claims):
            number += 1
            name = f"shared{one}" if one < 10 else f"{vm}-{one}"
            knob = File(f"/sys/kernel/bench/{name}")
            claim = journal.claim(number, "prepare", 0, Step("write", knob, Override("1")), "0")
            journal.mark(claim, type(claim.state).HELD)
        journal.end()


def inside(turns: int) -> None:
    """The measurements, in the namespaces."""
    print(f"{'':52}{'CPU ms':>8}{'ratio':>7}{'M instr.':>10}{'calls':>10}{'opens':>8}", flush=True)
    os.makedirs(STATE, mode=0o700)
    with processes(350):
        live("pci, cpus, irqs, governor, hugepages", "win11", turns, instructions=True)
    with processes(2000):
        live("64 functions, 2,000 processes", "many", max(1, turns // 2))
    live("alone", "quiet", turns)
    crowd(20, 1000)
    live("beside 20 VMs x 1,000 claims", "quiet", turns)
    status = [PYTHON, "-c", "import sys; sys.path.insert(0, '/run/library');"]
    status[-1] += "from vfio_hooks.cli import main; sys.exit(main(['status']))"
    show("status of 20 VMs x 1,000 claims", Cost(run(status, "/dev/null")))


def host(root: Path) -> Sealed:
    """A host of 16 CPUs with 100 interrupts, cgroup v2 without systemd, 64 sound cards more."""
    sealed = Sealed(gpu_host(root))
    build(root, 16, 100)
    for address in MANY:
        add_pci(root, address, "snd_hda_intel", str(100 + MANY.index(address)), "0x040300")
        card = root / f"sys/bus/pci/devices/{address}/sound/pcm"
        put(card, "dev", f"116:{MANY.index(address)}")
        (card / "subsystem").symlink_to("/sys/class/sound")
    put(root, "sys/devices/system/node/node0/meminfo", f"Node 0 MemTotal: {16 << 20} kB")
    for name, text in (("nr", "0"), ("surplus", "0"), ("free", "0")):
        put(root, f"{PAGES}/{name}_hugepages", text)
    put(root, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0")
    put(root, f"{CGROUP[1:]}/cgroup.controllers", "cpuset cpu memory")
    for name in ("init.scope", "system.slice", "user.slice"):
        put(root, f"{CGROUP[1:]}/{name}/cpuset.cpus", "")
    (root / "run/systemd/system").mkdir()
    put(root, "systemctl", SYSTEMCTL.strip())
    (root / "systemctl").chmod(0o755)
    for number in range(10):
        put(root, f"sys/kernel/bench/shared{number}", "1")
    for vm in range(20):
        for one in range(10, 1000):
            put(root, f"sys/kernel/bench/{vm}-{one}", "1")
    return sealed


def main(turns: str = "3", older: str = "") -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        sealed = host(root)
        sealed.manage("win11", TABLES)
        sealed.manage("many")
        sealed.manage("quiet", '[[write]]\npath = "/sys/kernel/bench/shared0"\nvalue = "1"\n')
        library = root / "run/library"
        shutil.copytree(CHECKOUT / "vfio_hooks", library / "vfio_hooks")
        if older:
            shutil.copytree(f"{older}/vfio_hooks", root / "run/older/vfio_hooks")
            hook = Path(older, "hooks/qemu").read_text()
            put(root, OLDER[1:], hook.replace("/usr/local/lib/vfio-hooks", "/run/older"))
            (root / OLDER[1:]).chmod(0o755)
            sealed.run(PYTHON, "-m", "compileall", "-q", "/run/older")
        sealed.install(Path("/run/library"))
        sealed.run(PYTHON, "-m", "compileall", "-q", "/run/library")
        # Nobody reads this log; its queue would fill and be waited for.
        (root / "run/systemd/journal/socket").unlink()
        (root / "run/win11.xml").write_text(domain_xml(more=MORE))
        for number, (vm, functions) in enumerate((("many", MANY), ("quiet", ()))):
            uuid = f"6b7b8a1e-7c5e-4d0f-9a55-00000000000{number}"
            (root / f"run/{vm}.xml").write_text(domain_xml(vm, uuid, functions))
        code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); "
        code += f"from tests.bench.events import inside; inside({int(turns)})"
        argv = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-ec", ENTER, "sh")
        with sealed.popen(*argv, str(root), code) as process:
            assert process.stdout and process.stderr
            for line in process.stdout:
                print(line.decode(), end="", flush=True)
            sys.stderr.write(process.stderr.read().decode(errors="replace"))
        sys.exit(process.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
