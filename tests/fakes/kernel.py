"""A kernel in memory: files and links, and what the real one does when some of them are written.

It answers to `WritableHost`'s interface, so knobs, plugins and the engine run on it unchanged.
What it claims to be like was seen on the emulated host; the tests there are the proof.
"""

import errno
import fnmatch
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fakes import (
    cgroups,
    cpufreq,
    display,
    hotplug,
    hugepages,
    irqbalance,
    mdev,
    sriov,
    systemd,
    tasks,
    udev,
    usb,
    watchdog,
)
from tests.fakes.display_server import Server
from tests.fakes.pci import DEVICES, DRIVERS, Bus
from tests.fakes.shared import Memory
from vfio_hooks.errors import HookError
from vfio_hooks.host import WritableHost
from vfio_hooks.host.cpulist import format_list, format_mask, parse_list, parse_mask
from vfio_hooks.host.shared_memory import Access, Shared

WRITE_ONLY = ("/proc/sys/vm/drop_caches", "/proc/sys/vm/compact_memory")


class Kernel(Bus, Memory, WritableHost):
    """The files of a host that only exists in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.shared: dict[str, Shared] = {}
        self.home: dict[str, str] = {}
        self.refuses: set[str] = set()
        """Paths whose writes fail with EINVAL."""
        self.managed: set[str] = set()
        """Affinities of managed interrupts."""
        self.managed_error = errno.EPERM
        """What a write to one of these fails with: EIO on Linux 6.1."""
        self.turns: dict[tuple[str, str], str] = {}
        """What a write of a text to a path makes of it instead."""
        self.remembered: dict[str, str] = {}
        self.per_policy = False
        self.free_pages = 1 << 20
        self.found_by_compaction = 0
        self.watching: set[str] = set()
        self.triggered: list[str] = []
        """Writes to files that cannot be read, which change no other file."""
        self.announcing: list[str] = []
        """The events that udev was told of, as "remove card0"."""
        self.ran: list[list[str]] = []
        self.allowed: dict[str, str] = {}
        self.units: dict[str, str] = {}
        self.fragile: set[str] = set()
        self.broken: set[str] = set()
        self.removed: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.banned = self.asked = ""
        self.hands_on = self.empties = self.trims = False
        self.unmoved = 0
        self.screen = Server()

    def state(self) -> dict[str, str]:
        """Every file and link, for comparing before with after."""
        files = systemd.without_the_unrestricted(self.files)
        if self.allowed:
            # A cpuset gives its tasks the CPUs that are online, and follows those that come.
            files |= tasks.within(self.files, self.files["/sys/devices/system/cpu/online"])
        files["irqbalance"] = self.asked
        files["screen"] = self.screen.xrandr(["--verbose"])
        files |= {f"shared {name}": str(shared) for name, shared in self.shared.items()}
        files |= {f"unit {name}": active for name, active in self.units.items()}
        return {**files, **{name: "→ " + to for name, to in self.links.items()}}

    def read(self, name: str) -> str:
        if name in WRITE_ONLY:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        if name in (watchdog.BOTH, *watchdog.ONE) and name in self.files:
            return watchdog.read(self, name)
        if "/task/" in name and name not in self.files:
            # A process that was given no threads has one.
            name = "/".join((*name.split("/")[:3], name.split("/")[-1]))
        hotplug.check_policy(self, name)
        try:
            return self.files[name].strip()
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name) from None

    def names(self, folder: str) -> list[str]:
        start = folder.rstrip("/") + "/"
        if folder.endswith("/task") and not any(name.startswith(start) for name in self.files):
            return [folder.split("/")[2]]
        below = (
            name[len(start) :] for name in (*self.files, *self.links) if name.startswith(start)
        )
        return sorted({name.partition("/")[0] for name in below})

    def exists(self, name: str) -> bool:
        known = name in self.files or name in self.links or name in WRITE_ONLY
        return known or bool(self.names(name))

    def link(self, name: str) -> str | None:
        return self.links.get(name)

    def write(self, name: str, text: str) -> None:
        text = text.strip()
        if name in self.refuses:
            raise OSError(errno.EINVAL, "Invalid argument", name)
        hotplug.check_policy(self, name)
        if name in self.managed:
            raise OSError(self.managed_error, os.strerror(self.managed_error), name)
        if name.startswith(usb.DRIVERS):
            usb.write(self, name, text)
        elif name.endswith("/uevent") and name in self.files:
            udev.handle(self, name, text)
        elif name.endswith("/driver/unbind"):
            self.unbind(name.split("/")[-3], text)
        elif name.startswith("/sys/bus/platform/drivers/"):
            display.bind(self, name, text)
        elif name == "/sys/bus/pci/drivers_probe":
            self.probe(text)
        elif name.startswith(mdev.PARENTS) and name in self.files:
            mdev.make(self, name, text)
        elif name.startswith(mdev.DEVICES) and name in self.files:
            mdev.remove(self, name)
        elif name.endswith("/remove") and name in self.files:
            self.remove_function(name.split("/")[-2])
        elif name.endswith("_resize"):
            self.resize(name.split("/")[-2], int(name.removesuffix("_resize")[-1]), text)
        elif name == "/sys/bus/pci/rescan":
            self.rescan()
        elif name in WRITE_ONLY or fnmatch.fnmatch(name, "/sys/devices/system/node/*/compact"):
            self.triggered.append(f"{name} {text}")
            hugepages.make_room(self)
        elif name in (watchdog.BOTH, *watchdog.ONE) and name in self.files:
            watchdog.write(self, name, text)
        elif cgroups.handles(name):
            cgroups.write(self, name, text)
        elif name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        else:
            self.files[name] = self._shown(name, text) + "\n"

    def write_aside(self, name: str, text: str, seconds: float, title: str) -> None:
        self.write(name, text)

    def run(self, argv: list[str], seconds: float = 30) -> str:
        self.ran.append(argv)
        match argv:
            case ["modprobe", "--", driver]:
                display.load(self, driver)
            case ["rmmod", "--", name]:
                display.unload(self, name)
            case ["udevadm", "settle", _]:
                pass
            case ["systemctl", "set-property", "--runtime", "--", unit, assignment]:
                systemd.set_property(self, unit, assignment)
            case ["systemctl", "daemon-reload"]:
                pass
            case ["systemctl", "start" | "stop" | "reset-failed" as verb, "--", unit]:
                systemd.control(self, verb, unit)
            case ["ip", *words]:
                sriov.ip(self, words)
            case ["systemd-run", *words]:
                systemd.run_service(self, words)
            case ["switch", name, "on" | "off" as way]:
                self.files[f"/switch/{name}"] = way + "\n"
            case ["env" | "setpriv", *_]:
                return self.screen.told(argv)
            case _:
                raise HookError(f"{argv[0]}: no such program")
        return ""

    def show(self, argv: list[str], seconds: float = 30) -> str:
        match argv:
            case ["systemctl", "show", properties, "--", unit]:
                return systemd.show(self, properties.removeprefix("--property="), unit)
            case ["systemctl", "show", "--property=SystemState", "--value"]:
                return "running\n"
            case ["udevadm", "settle", _]:
                return ""
            case ["ip", *words]:
                return sriov.ip(self, words)
            case ["env" | "setpriv", *_]:
                return self.screen.told(argv)
        raise HookError(f"{argv[0]}: no such program")

    def ask(self, name: str, text: str, seconds: float = 10) -> str:
        return irqbalance.answer(self, text)

    def store(self, name: str, text: str) -> None:
        self.files[name] = text

    def remove(self, name: str) -> None:
        del (self.shared if name in self.shared else self.files)[name]

    def make_folder(self, name: str) -> None:
        cgroups.make(self, name)

    def remove_folder(self, name: str) -> None:
        cgroups.remove(self, name)

    def set_affinity(self, pid: int, cpus: Iterable[int]) -> None:
        name = f"/proc/{pid}/status"
        if name not in self.files:
            raise ProcessLookupError(errno.ESRCH, "No such process", name)
        tasks.allow(self, str(pid), format_list(hotplug.allowed(self, frozenset(cpus), pid)))

    def _shown(self, name: str, text: str) -> str:
        """What a file shows after a write."""
        text = self.turns.get((name, text), text)
        if name.startswith(cpufreq.FOLDER):
            return cpufreq.shown(self, name, text)
        if name.endswith(f"/{cpufreq.LATENCY}"):
            return cpufreq.latency_shown(name, text)
        if name.endswith("/driver_override"):
            return text or "(null)"
        if name.endswith("/cpuset.cpus"):
            return systemd.write(self, name, text)
        if name.endswith("/nr_hugepages"):
            return hugepages.ask(self, name, int(text))
        if name.endswith("/sriov_numvfs"):
            return sriov.set_count(self, text)
        if name.endswith("_list") or name.endswith("/cpus"):
            return format_list(parse_list(text))
        if name.endswith("mask") or name.endswith("/default_smp_affinity"):
            return format_mask(parse_mask(text))
        if name.startswith("/sys/kernel/mm/transparent_hugepage/"):
            choices = self.read(name).replace("[", "").replace("]", "").split()
            return " ".join(f"[{choice}]" if choice == text else choice for choice in choices)
        return text

    def add_thread(self, pid: int, name: str, cpus: str, flags: int = 0x208040) -> None:
        """Put a kernel thread into the host; 0x4208060 are the flags of one that stays put."""
        fields = ["S", "2", "0", "0", "0", "-1", str(flags), *["0"] * 12, str(pid * 10)]
        self.files[f"/proc/{pid}/stat"] = f"{pid} ({name}) {' '.join(fields)} {'0 ' * 30}\n"
        self.files[f"/proc/{pid}/status"] = f"Name:\tkthread\nCpus_allowed_list:\t{cpus}\n"


def a_host() -> Kernel:
    """A host with one of everything that a step may be about."""
    kernel = Kernel()
    kernel.files[f"{DRIVERS}/vfio-pci/uevent"] = "\n"
    kernel.add_pci("0000:04:00.0", "amdgpu", "7")
    kernel.add_pci("0000:04:00.1", "snd_hda_intel", "7", "0x040300")
    kernel.add_pci("0000:05:00.0", "e1000e", "8", "0x020000")
    udev.add_card(kernel, f"{DEVICES}/0000:04:00.0/drm/card0", "226:0")
    for address in ("0000:0d:00.0", "0000:0d:00.1"):
        kernel.add_pci(address, "e1000e", "12", "0x020000")
        kernel.files[f"{DEVICES}/{address}/power/control"] = "auto\n"
    kernel.add_pci("0000:0b:00.0", "nvidia", "10")
    kernel.add_pci("0000:0c:00.0", "amdgpu", "11")
    kernel.fragile.add("0000:0c:00.0")
    for address in ("0000:04:00.0", "0000:06:00.0"):
        kernel.files[f"{DEVICES}/{address}/resource"] = "0xd0000000 0xdfffffff 0x0014220c\n"
        kernel.files[f"{DEVICES}/{address}/resource0_resize"] = "0000000000003f00\n"
    kernel.add_pci("0000:06:00.0", "vfio-pci", "9", "0x010802", override="vfio-pci")
    kernel.files |= {
        "/proc/irq/24/smp_affinity_list": "0-7\n",
        "/proc/irq/25/smp_affinity_list": "6\n",
        "/proc/irq/26/smp_affinity_list": "0-7\n",
        "/proc/irq/default_smp_affinity": "ff\n",
        "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/devices/system/cpu/online": "0-7\n",
        "/sys/devices/system/cpu/possible": "0-15\n",
        "/proc/sys/kernel/osrelease": "6.12.118\n",
        "/proc/sys/vm/stat_interval": "1\n",
        "/switch/lamp": "off\n",
    }
    kernel.free_pages, kernel.found_by_compaction = 12, 2
    hugepages.add_pool(kernel, "/sys/devices/system/node/node0/hugepages/hugepages-2048kB", 3)
    watchdog.add(kernel)
    sriov.add_card(kernel)
    mdev.add_type(kernel, "0000:00:02.0", "i915-GVTg_V5_4")
    usb.boot(kernel)
    kernel.shared["/dev/shm/scream"] = Shared(Access(1000, 1000, 0o644), 4096)
    cpufreq.add_policy(kernel, 1, "2 3", "intel_pstate", "powersave")
    cpufreq.add_policy(kernel, 3, "6 7")
    kernel.write(f"{cpufreq.FOLDER}/schedutil/rate_limit_us", "500")
    cpufreq.add_policy(kernel, 2, "4 5", "amd-pstate-epp", "powersave")
    systemd.boot(kernel)
    kernel.units |= {"gdm.service": "active", "irqs.service": "inactive"}
    display.add(kernel)
    irqbalance.boot(kernel, "0")
    kernel.add_thread(77, "kswapd0 (a)", "0-15")
    cgroups.boot(kernel)
    systemd.set_property(kernel, "user.slice", "AllowedCPUs=0-6")
    kernel.managed.add("/proc/irq/26/smp_affinity_list")
    kernel.screen = Server.of_two()
    return kernel


@dataclass
class Lines:
    """A log that keeps its lines."""

    infos: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def info(self, text: str, vm: str = "") -> None:
        self.infos.append(text)

    def warning(self, text: str, vm: str = "") -> None:
        self.warnings.append(text)
