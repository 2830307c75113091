"""Which files of a host a snapshot has: those that the program reads, if they tell of nobody."""

import glob
import os
import re
from collections.abc import Iterator

from vfio_hooks.host import Host, kthread, modules
from vfio_hooks.record import record
from vfio_hooks.snapshot.private import Scrubber

LARGEST = 4 << 20
"""No file that the program reads has this many bytes."""

_PROC = """
    cmdline cpuinfo devices interrupts meminfo misc swaps iomem spl/kstat/zfs/arcstats
    irq/default_smp_affinity irq/[0-9]*/smp_affinity_list
    sys/kernel/osrelease sys/kernel/numa_balancing sys/kernel/watchdog sys/kernel/nmi_watchdog
    sys/kernel/soft_watchdog sys/kernel/watchdog_cpumask sys/kernel/sched_rt_runtime_us
    sys/kernel/split_lock_mitigate sys/vm/*
"""
_CPUS = """
    {online,offline,possible,present,isolated,nohz_full,smt/*,vulnerabilities/*,modalias,cpufreq}
    cpu[0-9]*/{online,cpu_capacity,cpufreq,topology/*} cpu[0-9]*/cache/index[0-9]*/*
    cpu[0-9]*/power/pm_qos_resume_latency_us
    cpufreq/{boost,policy[0-9]*/*,{,policy[0-9]*/}{schedutil,ondemand,conservative}/*}
    intel_pstate/* amd_pstate/*
"""
_NODES = "{online,node[0-9]*/{cpumap,cpulist,distance,meminfo,hugepages/*/*}}"
_PCI = """
    class vendor device revision subsystem_vendor subsystem_device numa_node local_cpulist irq
    modalias resource resource[0-9]_resize driver_override enable boot_vga reset reset_method
    {current,max}_link_{speed,width} power/control d3cold_allowed sriov_* msi_irqs/* driver
    iommu iommu_group physfn virtfn* net/* drm/* drm/card[0-9]*/dev sound/card[0-9]* graphics/*
    usb[0-9]*
"""
_SYS = """
    bus/pci/{drivers_probe,drivers_autoprobe,drivers/*/{bind,unbind,new_id,module}}
    bus/platform/devices/* bus/usb/devices/*/{idVendor,idProduct,bDeviceClass,busnum,devnum,driver}
    bus/usb/devices/* bus/workqueue/devices/*/cpumask class/net/* class/net/*/{device,master}
    class/iommu/* class/iommu/*/intel-iommu/cap class/vtconsole/*/{name,bind} class/drm/*
    class/graphics/*
    devices/{cpu_core,cpu_atom,cpu_lowpower}/cpus devices/virtual/workqueue/{cpumask,*/cpumask}
    devices/system/clocksource/clocksource0/* firmware/{efi,acpi,acpi/tables/{DMAR,IVRS}}
    fs/cgroup/cgroup.{controllers,subtree_control} fs/cgroup/cpuset/cpuset.cpus
    fs/cgroup/{*.slice,*.scope} fs/cgroup/{*.slice,*.scope}/cpuset.cpus*
    fs/cgroup/system.slice/{power-profiles-daemon,tuned,tuned-ppd,auto-cpufreq}.service
    kernel/iommu_groups/*/{type,devices/*} kernel/irq/[0-9]*/actions
    kernel/mm/{hugepages/*,transparent_hugepage,ksm}/* module/* module/*/{refcnt,initstate}
    module/{kvm,kvm_amd,kvm_intel,vfio*,apparmor,snd_hda_intel,pcie_aspm}/parameters/*
"""
_OTHER = """
    /run/udev/data/{c226:*,+sound:card*} /run/tlp/last_pwr
    /run/systemd/system /dev/kvm /dev/vfio /etc/modules /etc/initramfs-tools/modules
    /etc/{mkinitcpio.conf,mkinitcpio.conf.d/*,modules-load.d/*,dracut.conf.d/*}
    {/etc,/run,/usr/lib,/lib}/modprobe.d/*.conf
"""
_MODULES = re.compile(r"vfio|kvm|cpufreq")
_NEVER = ("/proc/sys/vm/stat_refresh",)
"""Reading this one makes the kernel work."""
_ONLY_NAMES = ("/sys/firmware/", "/dev/", "/sys/class/net/", "/run/udev/")


@record
class Entry:
    """A file by its name on the host: its text, or where a link leads; a folder has neither."""

    name: str
    text: str | None = None
    link: str | None = None


def entries(host: Host) -> Iterator[Entry]:
    """What a snapshot has of a host, each name once. What can only be written is there without
    text, and what this user cannot read is not there."""
    scrubber = Scrubber(host)
    seen = set()
    for name in _names(host):
        for entry in _entry(host, name, scrubber):
            if entry.name not in seen:
                seen.add(entry.name)
                yield entry
    yield from _threads(host)
    yield from _module_lists(host, scrubber)


def patterns() -> Iterator[str]:
    """The names, as globs."""
    for folder, text in (
        ("/proc/", _PROC),
        ("/sys/devices/system/cpu/", _CPUS),
        ("/sys/devices/system/node/", _NODES),
        ("/sys/bus/pci/devices/*/", _PCI),
        ("/sys/", _SYS),
        ("", _OTHER),
    ):
        for pattern in text.split():
            yield from dict.fromkeys(_braces(folder + pattern))
    yield "/sys/bus/pci/devices/*"


def _braces(pattern: str) -> Iterator[str]:
    """ "a{b,c{d,e}}" as "ab", "acd", "ace"; the innermost braces come first."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        yield pattern
        return
    for part in found[1].split(","):
        yield from _braces(pattern[: found.start()] + part + pattern[found.end() :])


def _names(host: Host) -> Iterator[str]:
    for pattern in patterns():
        for path in sorted(glob.glob(host.path(pattern))):
            yield path[len(host.root) :]


def _entry(host: Host, name: str, scrubber: Scrubber) -> Iterator[Entry]:
    """A file where it really is: most of /sys is reached through links, which stay links."""
    folder = os.path.realpath(host.path(os.path.dirname(name)))
    path = f"{folder}/{os.path.basename(name)}"
    real = path[len(os.path.realpath(host.root)) :] if host.root else path
    clean = scrubber.name(real)
    if os.path.islink(path):
        target = os.path.normpath(os.path.join(folder, os.readlink(path)))
        yield Entry(clean, link=scrubber.name(os.path.relpath(target, folder)))
    elif os.path.isdir(path):
        yield Entry(clean)
    elif real.startswith(_ONLY_NAMES) or real in _NEVER:
        yield Entry(clean, "")
    elif (text := _read(path)) is not None:
        yield Entry(clean, scrubber.text(real, text))


def _read(path: str) -> str | None:
    try:
        if not os.stat(path).st_mode & 0o444:
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            # Not read(LARGEST): the kernel refuses that many bytes at once below /proc/sys.
            return file.read()[:LARGEST]
    except OSError:
        return None


def _threads(host: Host) -> Iterator[Entry]:
    """The kernel's own threads: other programs are nobody's business."""
    for pid in map(int, filter(str.isdecimal, host.names("/proc"))):
        if kthread.is_kernels(host, pid):
            for file in ("stat", "status"):
                yield Entry(f"/proc/{pid}/{file}", (host.maybe(f"/proc/{pid}/{file}") or "") + "\n")


def _module_lists(host: Host, scrubber: Scrubber) -> Iterator[Entry]:
    """Which modules of those that matter the running kernel could load, and the soft dependencies
    of its modules."""
    folder = modules.folder(host)
    softdeps = f"{folder}/modules.softdep"
    if (text := host.maybe(softdeps)) is not None:
        yield Entry(softdeps, scrubber.text(softdeps, text))
    for file in ("modules.dep", "modules.builtin"):
        name = f"{folder}/{file}"
        text = host.maybe(name)
        if text is not None:
            lines = (line.partition(":") for line in text.splitlines() if _MODULES.search(line))
            yield Entry(name, "".join(f"{module}{colon}\n" for module, colon, _ in lines))
