"""The state of a host that the hooks may change, as flat text: a line for each thing.

It only has what should be the same before and after a VM: no counters, no times, no ids. It needs
only the standard library, because the tests also run it in the emulated host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vfio_hooks import STATE
from vfio_hooks.host import Host, irq
from vfio_hooks.host.cpulist import format_list, parse_mask
from vfio_hooks.host.kthread import FLAGS, PF_NO_SETAFFINITY, START, stat
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.knobs.irq import IrqAffinity

State = dict[str, str]

SLICES = ("system.slice", "user.slice", "machine.slice", "init.scope")
SYSCTLS = """
    kernel/numa_balancing kernel/watchdog kernel/nmi_watchdog kernel/sched_rt_runtime_us
    kernel/sched_autogroup_enabled kernel/timer_migration kernel/randomize_va_space
    vm/compaction_proactiveness vm/dirty_background_ratio vm/dirty_ratio vm/max_map_count
    vm/nr_overcommit_hugepages vm/overcommit_memory vm/stat_interval vm/swappiness
    vm/vfs_cache_pressure vm/zone_reclaim_mode
""".split()
KERNEL_FILES = (
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/merge_across_nodes",
    "/sys/devices/virtual/workqueue/cpumask",
    "/sys/bus/workqueue/devices/writeback/cpumask",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/smt/control",
    "/sys/module/kvm/parameters/halt_poll_ns",
    "/sys/module/pcie_aspm/parameters/policy",
    "/proc/irq/default_smp_affinity",
)
# A look reads a thousand files, three for each task. With Path's methods it would take twice as
# long.
_HOST = Host()


def read(path: Path) -> str:
    """A file's text without its line end, or a word that says that it is absent or unreadable."""
    try:
        return _HOST.read(str(path))
    except OSError as error:
        return f"({error.strerror})"


def run(*argv: str) -> str:
    """A program's output. A failure is part of the text, so it is the same in both states."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else f"(exit {done.returncode})"


def _link(path: Path) -> str:
    return path.readlink().name if path.is_symlink() else ""


def pci() -> Iterator[tuple[str, str]]:
    """Driver, override and power control of each function; how many VFs a PF has."""
    for device in sorted(Path("/sys/bus/pci/devices").iterdir()):
        yield f"pci {device.name} driver", _link(device / "driver")
        for name in (
            "driver_override",
            "reset_method",
            "d3cold_allowed",
            "power/control",
            "sriov_numvfs",
            "sriov_drivers_autoprobe",
        ):
            if (device / name).exists():
                yield f"pci {device.name} {name}", read(device / name)


def links() -> Iterator[tuple[str, str]]:
    """Network links and the settings of their VFs, by the name of the PF."""
    for link in json.loads(run("ip", "-j", "link", "show") or "[]"):
        name = link["ifname"]
        for setting in ("address", "mtu", "master"):
            if setting in link:
                yield f"link {name} {setting}", str(link[setting])
        yield f"link {name} up", str("UP" in link["flags"])
        for function in link.get("vfinfo_list", []):
            for setting, value in sorted(function.items()):
                if setting != "vf" and "stats" not in setting:
                    yield f"link {name} vf {function['vf']} {setting}", json.dumps(value)


def usb() -> Iterator[tuple[str, str]]:
    """The driver of each interface, by controller and port: buses get new numbers."""
    for link in sorted(Path("/sys/bus/usb/devices").glob("*:*")):
        controller = next(part for part in link.resolve().parts[::-1] if part.count(":") == 2)
        yield f"usb {controller} {link.name.partition('-')[2]}", _link(link / "driver")


def mediated() -> Iterator[tuple[str, str]]:
    """The type of each mediated device."""
    for device in sorted(Path("/sys/bus/mdev/devices").glob("*")):
        yield f"mdev {device.name}", _link(device / "mdev_type")


def shared() -> Iterator[tuple[str, str]]:
    """Owner and permissions of the files that programs share memory through."""
    for path in sorted(Path("/dev/shm").iterdir()):
        seen = path.lstat()
        yield f"shm {path.name}", f"{seen.st_uid}:{seen.st_gid} {seen.st_mode:o}"


def cgroups() -> Iterator[tuple[str, str]]:
    """The CPUs and nodes that systemd's top units may use, in cgroup v2 or v1."""
    top = Path("/sys/fs/cgroup")
    unified = (top / "cgroup.controllers").exists()
    possible = read(Path("/sys/devices/system/cpu/possible"))
    for unit in SLICES:
        for name in ("cpuset.cpus", "cpuset.cpus.partition", "cpuset.mems"):
            path = top / unit / name if unified else top / "cpuset" / unit / name
            # An absent file and an empty one both mean that there is no limit. The file exists once
            # the cpuset controller has been on, which is left on by design.
            text = read(path) if path.exists() else ""
            if text == possible:
                text = ""  # Linux before 7 does not allow a set with tasks to be emptied.
            if not (name == "cpuset.cpus.partition" and text == "member"):
                yield f"cgroup {unit} {name}", text


def _threads() -> Iterator[tuple[int, int]]:
    """The number of each process, with that of each of its threads."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # It has ended.
            for number in os.listdir(f"/proc/{process}/task"):
                yield int(process), int(number)


def tasks() -> Iterator[tuple[str, str]]:
    """The CPUs that each task may use, by number and start. For programs that come and go, the CPUs
    of all programs in each top-level unit."""
    groups: dict[str, set[str]] = {}
    for process, number in _threads():
        folder, seen = f"/proc/{process}/task/{number}", stat(_HOST, process, number)
        try:
            status = _HOST.read(f"{folder}/status")
            group = _HOST.read(f"{folder}/cgroup").splitlines()[-1].partition("/")[2]
        except OSError:
            continue  # It has ended.
        if seen is None:
            continue
        name, fields = seen
        cpus = status.partition("\nCpus_allowed_list:\t")[2].partition("\n")[0]
        if name.startswith("irq/") or int(fields[FLAGS]) & PF_NO_SETAFFINITY:
            # The kernel keeps it where its interrupt is, or sends it where there is work: a queue's
            # rescuer has the CPUs of the node that it last helped. Nothing else can move it.
            continue
        yield f"task {number} since {fields[START]}", f"{cpus} ({name})"
        if group:
            groups.setdefault(group.partition("/")[0], set()).add(cpus)
    for unit, lists in sorted(groups.items()):
        yield f"task of {unit}", " and ".join(sorted(lists))


def interrupts(host: Host = _HOST) -> Iterator[tuple[str, str]]:
    """The CPUs that each interrupt may go to, by its device and use.

    Numbers would not do: when a driver lets a device go and takes it back, its interrupts get new
    numbers but the same uses. Masks only stay the same while irqbalance rests; `Guest.calm` sees to
    that.
    """
    devices = {
        number: address
        for address in host.names(DEVICES)
        for number in host.names(f"{DEVICES}/{address}/msi_irqs")
    }
    default = format_list(parse_mask(host.maybe(irq.DEFAULT) or "0"))
    for line in map(IrqAffinity, irq.numbers(host)):
        name = str(line.number)
        use = host.maybe(f"/sys/kernel/irq/{name}/actions") or "(null)"
        if re.fullmatch(r"nvme[0-9]+q0", use):
            # When the driver comes back, the kernel chooses again, by the node on which it probes.
            continue
        mask = host.maybe(line.key) or "(gone)"
        if use != "(null)":
            yield f"irq {devices.get(name, name)} {use}", mask
        elif name not in devices:
            # An interrupt that was used once has what the kernel made of the default mask, and gets
            # it again at its next use.
            is_default = mask in (default, line.begun(default, host))
            yield f"line {name}", "default" if is_default else mask


def processors() -> Iterator[tuple[str, str]]:
    """Each cpufreq policy's governor and limits; the exit latency that each CPU may have."""
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    for policy in sorted(Path("/sys/devices/system/cpu/cpufreq").glob("policy*")):
        for name in (*names, "energy_performance_preference"):
            if (policy / name).exists():
                yield f"cpufreq {policy.name} {name}", read(policy / name)
    limits = Path("/sys/devices/system/cpu").glob("cpu*/power/pm_qos_resume_latency_us")
    for limit in sorted(limits):
        yield f"{limit.parts[-3]} {limit.name}", read(limit)


def memory() -> Iterator[tuple[str, str]]:
    """Hugepages of each size on each node."""
    pattern = "node[0-9]*/hugepages/hugepages-*/nr_hugepages"
    for path in sorted(Path("/sys/devices/system/node").glob(pattern)):
        yield f"hugepages {path.parts[-4]} {path.parts[-2]}", read(path)


def kernel() -> Iterator[tuple[str, str]]:
    """Sysctls and other single files; the consoles that hold a graphics device."""
    for name in SYSCTLS:
        if (Path("/proc/sys") / name).exists():
            yield f"sysctl {name}", read(Path("/proc/sys") / name)
    for path in map(Path, KERNEL_FILES):
        if path.exists():
            yield f"file {path}", read(path)
    for console in sorted(Path("/sys/class/vtconsole").glob("vtcon*")):
        yield f"console {read(console / 'name')}", read(console / "bind")


def units() -> Iterator[tuple[str, str]]:
    """systemd's CPU limits, the services that hooks stop, and the units that they make."""
    services = ("display-manager.service", "irqbalance.service")
    names = ("AllowedCPUs", "AllowedMemoryNodes", "StartupAllowedCPUs", "ActiveState")
    # One call for all units, because each call takes tenths of a second under emulation.
    shown = run(
        *("systemctl", "show", f"--property=Id,{','.join(names)}"),
        *(*SLICES, *services, "vfio-hooks*"),
    )
    for block in shown.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        unit = fields.get("Id", "?")
        for name in names[-1:] if unit in services else names[:-1] if unit in SLICES else names:
            yield f"unit {unit} {name}", fields.get(name, "")


def leftovers() -> Iterator[tuple[str, str]]:
    """Our own files, and the settings that systemd keeps until the next boot."""
    for top in (STATE, "/run/systemd/system.control"):
        for path in sorted(Path(top).rglob("*")):
            # The lock's file stays; only whether it is held counts.
            if path.is_file() and path.name != "lock":
                yield f"left {path}", read(path)[:400]


def collect() -> State:
    """The whole state, one line of text for each thing."""
    parts = (
        pci,
        links,
        usb,
        mediated,
        shared,
        cgroups,
        tasks,
        interrupts,
        processors,
        memory,
        kernel,
        units,
        leftovers,
    )
    return {key: value for part in parts for key, value in part()}
