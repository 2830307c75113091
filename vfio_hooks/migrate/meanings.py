"""What a command of a script does to the host, and which table of vm.toml does the same.

A command is looked up as one line of text: its words, without sudo and the like; or, where it
writes a value into a file, "write VALUE > FILE". The first pattern that is found in it decides.
"""

import re
from typing import Literal

from vfio_hooks.record import record

Kind = Literal["table", "needless", "keep", "mistake"]
"""A table does it; nothing is needed in its place; only a script can do it; it does harm, or not
what is meant."""


@record
class Meaning:
    """What a command is for. `table` is the facility, "" for none; `keys` name options of it,
    whose values are groups of `pattern`, or stand after a "="."""

    pattern: str
    kind: Kind
    table: str
    why: str
    keys: tuple[str, ...] = ()


_MANAGERS = (
    r"(?:display-manager|gdm3?|sddm|lightdm|lxdm|xdm|slim|ly(?:@\w+)?|greetd|cosmic-greeter|nodm|"
    r"plasmalogin)"
)
_DESKTOP = (
    r"(?:gdm-\S+|Xorg|X|Xwayland|gnome-shell|gnome-session\S*|plasma\S*|kwin\S*|startplasma\S*|"
    r"Hyprland|hyprland|sway|niri|river|labwc|i3|openbox|awesome|xfce4-session|cinnamon\S*)"
)
_UNLOAD = r"^(?:modprobe (?:-\S+ )*(?:-\w*r\w*|--remove)|rmmod)\b"
_SIGNAL = r"(?:-(?:9|15|1|KILL|TERM|HUP|SIGKILL|SIGTERM)|-s \w+|--signal \w+)"
_SOUND = r"(?:pipewire\S*|wireplumber|pulseaudio)"
_HELPERS = (
    r"(?:looking-glass(?:-client)?|scream\S*|barrier\S*|synergy\S*|input-leap\S*|deskflow\S*|evsieve|"
    r"netevent|xfreerdp\d?|remmina)"
)
_SYSCTLS = (
    "swappiness|compaction_proactiveness|zone_reclaim_mode|stat_interval|numa_balancing|"
    "nmi_watchdog|soft_watchdog|sched_rt_runtime_us"
)
_VF_SETTINGS = (
    *("mac", "vlan", "qos", "proto", "trust", "spoofchk", "state", "max_tx_rate", "min_tx_rate"),
)
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CPU = r"/sys/devices/system/cpu/\S*"
_PCI_FILE = r"/sys/bus/pci/devices/\S*|/sys/devices/pci\S*"

MEANINGS = (
    # The desktop and its card.
    Meaning(
        rf"^(?:systemctl|service|rc-service|sv|dinitctl|s6-rc)\b.*\b{_MANAGERS}(?:\.service)?\b|"
        # /etc/init.d/xdm
        rf"^{_MANAGERS} (?:stop|start|restart)$",
        "table",
        "session",
        "the display manager is stopped, waited for, and started again",
    ),
    Meaning(
        r"^systemctl\b.*\bisolate\b",
        "table",
        "session",
        "only the display manager is stopped, and no other service",
    ),
    Meaning(
        r"^systemctl\b.*--user\b.*(?:plasma|-session\.target|gnome|pipewire|wireplumber|pulse)",
        "table",
        "session",
        "what belongs to the session ends with it",
    ),
    Meaning(
        rf"^(?:killall|pkill|kill)\b.*\b(?:{_DESKTOP}|{_SOUND})(?:\s|$)",
        "table",
        "session",
        "programs of the session end with it; those that still have the card open are ended",
        ("leftovers=end",),
    ),
    Meaning(
        # All programs of a user, or all that have the card or the sound open.
        rf"^(?:killall|pkill)(?: {_SIGNAL})* -u \S+(?: {_SIGNAL})*$|"
        r"^loginctl\b.*(?:terminate-user|terminate-session|kill-user|kill-session)|"
        r"^fuser\b.* -\w*k.* /dev/(?:nvidia|dri|snd|fb)|"
        r"^kill\b.* \?/dev/(?:nvidia|dri|snd|fb)",
        "table",
        "session",
        "programs of the session end with it; those that still have the card open are ended",
        ("leftovers=end",),
    ),
    Meaning(
        r"^write \S* ?> ?\S*/vtcon\S*/bind",
        "table",
        "session",
        "the console on a framebuffer is unbound, and bound again",
    ),
    Meaning(
        rf"^(?:write 1 ?> ?\S*/{_UUID}/remove$|mdevctl stop\b)",
        "needless",
        "mdev",
        "the mediated device is removed when the VM has ended",
    ),
    Meaning(
        r"^write .*> ?\S*/(?:efi|vesa|simple)-framebuffer\S*/(?:un)?bind",
        "table",
        "session",
        "the firmware's framebuffer is removed from the card",
    ),
    Meaning(
        r"^systemctl\b.*\bnvidia-(?:persistenced|powerd)\b",
        "needless",
        "session",
        "nvidia's services are stopped before its modules are unloaded, and started again "
        "afterwards",
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?:drm_kms_helper|drm|fb\w*)\b(?!.*nvidia)",
        "needless",
        "session",
        "these modules hold no card",
    ),
    Meaning(
        rf"{_UNLOAD}.*\bnvidia",
        "table",
        "session",
        "nvidia's modules are unloaded in the right order, and loaded again",
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?P<modules>amdgpu|radeon|nouveau|i915|xe)\b",
        "table",
        "session",
        "the card is taken from its driver; the module is unloaded only if that does not let go",
        ("modules",),
    ),
    Meaning(
        rf"{_UNLOAD}.*\b(?:snd_hda\w*|i2c_nvidia_gpu|xhci\w*|ucsi_ccg)\b",
        "table",
        "pci",
        "each passed function is taken from its driver; the module may stay loaded",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bvfio",
        "needless",
        "pci",
        "vfio's modules are loaded when a device needs them, and may stay loaded",
    ),
    Meaning(
        r"^(?:modprobe|rmmod)\b.*\bkvmfr\b",
        "table",
        "shm",
        "its module is loaded in the size that the domain asks for, and stays loaded",
    ),
    Meaning(
        r"^modprobe\b.*\b(?:nvidia|amdgpu|radeon|nouveau|i915|xe|drm|snd_hda|i2c_nvidia|ucsi|"
        r"gpu_sched|ttm|i2c_algo_bit|backlight)",
        "needless",
        "session",
        "the host's drivers come back by themselves",
    ),
    Meaning(
        r"^(?:nvidia-xconfig|nvidia-smi|optimus-manager|prime-select|supergfxctl|envycontrol)\b",
        "keep",
        "",
        "a setting of a tool of its own",
    ),
    # PCI devices.
    Meaning(
        r"^virsh\b.*\bnodedev-(?:detach|dettach|reattach|reset)\b",
        "table",
        "pci",
        "libvirt does it for managed='yes'; virsh in a hook can hang libvirt",
    ),
    Meaning(
        r"^virsh\b",
        "mistake",
        "",
        "a hook must not call libvirt: each waits for the other",
    ),
    Meaning(
        r"^write .*> ?\S*/sys/bus/pci/drivers/\S+/new_id",
        "mistake",
        "pci",
        "new_id takes every device of this kind, including the host's; [pci] binds a function by "
        "its address",
    ),
    Meaning(
        r"^write .*> ?\S*/sys/bus/pci/drivers/\S+/remove_id",
        "needless",
        "pci",
        "without new_id there is nothing to remove",
    ),
    Meaning(
        r"^write (?P<address>\S*) ?> ?\S*/sys/bus/pci/drivers/(?P<driver>pcieport|pci-bridge)/"
        "(?:un)?bind",
        "mistake",
        "pci",
        "a bridge is not passed to a VM, and stays with its driver",
    ),
    Meaning(
        r"^write .*> ?\S*(?:/sys/bus/pci/drivers/\S+/(?:un)?bind|/driver/unbind|driver_override|"
        r"/sys/bus/pci/drivers_probe|/sys/bus/pci/drivers/\S+/remove)$",
        "table",
        "pci",
        "each passed function gets vfio-pci by its address, and its own driver back",
    ),
    Meaning(r"^driverctl\b", "table", "pci", "each passed function gets vfio-pci by its address"),
    Meaning(
        r"^write .*> ?\S*(?:/remove|/sys/bus/pci/(?:devices/\S+/)?rescan)$",
        "table",
        "gpu",
        "a card that its driver does not take back is removed, and the bus is rescanned",
    ),
    Meaning(
        r"^write (?P<reset_method>[\w ]*?) ?> ?\S*/reset_method$",
        "table",
        "gpu",
        "the card's reset is chosen",
        ("reset_method",),
    ),
    Meaning(
        r"^write (?P<d3cold>[01]) ?> ?\S*/d3cold_allowed$",
        "table",
        "gpu",
        "whether the card may sleep deeply",
        ("d3cold",),
    ),
    Meaning(
        rf"^write (?P<power>on|auto) ?> ?(?:{_PCI_FILE})power/control$",
        "table",
        "gpu",
        "whether the card may sleep",
        ("power",),
    ),
    Meaning(
        r"^write (?P<bar_sizes>\d+) ?> ?\S*/resource[0-5]_resize$",
        "table",
        "gpu",
        "a BAR's size",
        ("bar_sizes",),
    ),
    Meaning(
        r"^write 1 ?> ?\S*/reset$",
        "needless",
        "pci",
        "the kernel resets a device when a VM opens and closes it",
    ),
    Meaning(
        r"^write 0 ?> ?\S*/sriov_numvfs$",
        "needless",
        "sriov",
        "the virtual functions are made, and removed again",
    ),
    Meaning(
        r"^write (?P<numvfs>[1-9]\d*) ?> ?/sys/(?:class/net|bus/pci/devices)/(?P<pf>[^/]+)/\S*"
        r"sriov_numvfs$",
        "table",
        "sriov",
        "the virtual functions are made, and removed again",
        ("pf", "numvfs"),
    ),
    Meaning(
        r"^write .*> ?\S*/sriov_numvfs$",
        "table",
        "sriov",
        "the virtual functions are made, and removed again",
    ),
    Meaning(
        r"^ip link set (?:dev )?(?P<pf>\S+) vf (?P<vf>\d+)(?: (?:mac (?P<mac>\S+)|"
        r"vlan (?P<vlan>\d+)|qos (?P<qos>\d+)|proto (?P<proto>\S+)|trust (?P<trust>on|off)|"
        r"spoofchk (?P<spoofchk>on|off)|state (?P<state>auto|enable|disable)|"
        r"max_tx_rate (?P<max_tx_rate>\d+)|min_tx_rate (?P<min_tx_rate>\d+)))*$",
        "table",
        "sriov",
        "a virtual function's settings",
        ("pf", "vf", *_VF_SETTINGS),
    ),
    Meaning(
        r"^write (?P<uuid>\S+) ?> ?(?:\S*/)?(?P<parent>[^/]+)/mdev_supported_types/"
        r"(?P<type>[^/]+)/create$",
        "table",
        "mdev",
        "the mediated device is made, and removed again",
        ("type", "parent", "uuid"),
    ),
    Meaning(
        r"^mdevctl start\b(?=.* (?:-u|--uuid)[ =](?P<uuid>\S+))"
        r"(?:(?=.* (?:-p|--parent)[ =](?P<parent>\S+)))?"
        r"(?:(?=.* (?:-t|--type)[ =](?P<type>\S+)))?",
        "table",
        "mdev",
        "the mediated device is made, and removed again",
        ("type", "parent", "uuid"),
    ),
    Meaning(
        r"^write (?P<device>\S*) ?> ?\S*/sys/bus/usb/drivers/"
        r"(?:[^/]+/unbind|(?P<driver>[^/]+)/bind)$",
        "table",
        "usb",
        "a USB device is taken from its drivers, and given back",
        ("device", "driver"),
    ),
    # CPUs and interrupts.
    Meaning(
        r"^systemctl\b.*set-property\b.*\binit\.slice\b",
        "mistake",
        "cpus",
        "there is no init.slice: PID 1 is in init.scope",
    ),
    Meaning(
        r"^systemctl\b.*set-property\b.*AllowedCPUs",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^systemctl\b.* revert\b.*\.(?:slice|scope)\b",
        "needless",
        "cpus",
        "undone automatically when the VM ends",
    ),
    Meaning(
        r"^(?:cset|vfio-isolate\b.*\b(?:cpuset-\w+|move-tasks))",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^write .*> ?\S*(?:/sys/fs/cgroup|/dev/cpuset|/cpuset)\S*|"
        r"^(?:mkdir|rmdir)\b.* /sys/fs/cgroup/|^cg(?:create|set|exec|delete|classify)\b",
        "table",
        "cpus",
        "host programs are kept off the VM's CPUs",
    ),
    Meaning(
        r"^write .*> ?\S*/(?:workqueue\S*/cpumask|watchdog_cpumask)$",
        "table",
        "cpus",
        "the kernel's own work is kept off the VM's CPUs",
    ),
    Meaning(
        r"^taskset\b",
        "table",
        "cpus",
        "programs and kernel threads are kept off the VM's CPUs; the VM's own are pinned by "
        "<cputune> in its XML",
    ),
    Meaning(
        r"^(?:chrt|renice|nice|ionice)\b",
        "needless",
        "",
        "<vcpusched> and <emulatorsched> in the XML's <cputune>: libvirt sets them itself",
    ),
    Meaning(
        r"^write .*> ?/proc/irq/\S*(?:smp_affinity\S*)$",
        "table",
        "irqs",
        "the host's interrupts are kept off the VM's CPUs, and the VM's own go to them",
    ),
    Meaning(
        r"^(?:systemctl|service|rc-service)\b.*\birqbalance\b|^irqbalance\b|"
        r"^vfio-isolate\b.*\birq-affinity|^write .*> ?\S*/irqbalance$",
        "table",
        "irqs",
        "irqbalance is told to keep off the VM's CPUs, and keeps running",
    ),
    Meaning(
        rf"^write [01] ?> ?{_CPU}/online$",
        "keep",
        "",
        "a CPU is switched off or on",
    ),
    Meaning(
        rf"^write (?P<governor>[\w?]+) ?> ?{_CPU}scaling_governor$",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor",),
    ),
    Meaning(
        r"^(?:cpupower\b.*\bfrequency-set|cpufreq-set)\b.* "
        r"(?:-g ?|--governor[ =])(?P<governor>\w+)",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor",),
    ),
    Meaning(
        r"^vfio-isolate\b.*\bcpu-governor (?P<governor>\w+)",
        "table",
        "governor",
        "the VM's CPUs get this governor, and afterwards the one that they had",
        ("governor",),
    ),
    Meaning(
        rf"^write (?P<energy_performance_preference>\w+) ?> ?{_CPU}energy_performance_preference$",
        "table",
        "governor",
        "the preference between speed and energy",
        ("energy_performance_preference",),
    ),
    Meaning(
        r"^x86_energy_perf_policy\b.* (?P<energy_performance_preference>performance|power)$",
        "table",
        "governor",
        "the preference between speed and energy",
        ("energy_performance_preference",),
    ),
    Meaning(
        rf"^write (?P<min_freq>\d+) ?> ?{_CPU}scaling_min_freq$",
        "table",
        "governor",
        "the lowest frequency",
        ("min_freq",),
    ),
    Meaning(
        r"^cpupower\b.* frequency-set\b.* (?:-d ?|--min[ =])(?P<min_freq>[\d.]+[kMG]?(?:Hz)?)\b",
        "table",
        "governor",
        "the lowest frequency",
        ("min_freq",),
    ),
    Meaning(
        rf"^write (?P<boost>[01]) ?> ?{_CPU}boost$",
        "table",
        "governor",
        "turbo frequencies",
        ("boost",),
    ),
    Meaning(
        rf"^write n/a ?> ?{_CPU}pm_qos_resume_latency_us$|^cpupower\b.* idle-set (?:-D ?|"
        r"--disable-by-latency[ =])0$",
        "table",
        "governor",
        "the VM's CPUs use no idle state that takes time to leave",
        ("max_exit_latency=0",),
    ),
    Meaning(
        rf"^write 0 ?> ?{_CPU}pm_qos_resume_latency_us$",
        "needless",
        "governor",
        "0 means no limit in this file, and there is none without max_exit_latency",
    ),
    Meaning(
        rf"^write (?P<max_exit_latency>\d+) ?> ?{_CPU}pm_qos_resume_latency_us$",
        "table",
        "governor",
        "the VM's CPUs use only idle states that they leave in this time",
        ("max_exit_latency",),
    ),
    Meaning(
        r"^cpupower\b.* idle-set (?:-D ?|--disable-by-latency[ =])(?P<max_exit_latency>\d+)$",
        "table",
        "governor",
        "the VM's CPUs use only idle states that they leave in this time",
        ("max_exit_latency",),
    ),
    Meaning(
        r"^cpupower\b.* idle-set (?:-E|--enable-all)$",
        "needless",
        "governor",
        "a limit ends with the VM",
    ),
    Meaning(
        r"^powerprofilesctl set (?P<power_profile>performance|power-saver)$",
        "table",
        "governor",
        "the power profile is held while the VM runs",
        ("power_profile",),
    ),
    Meaning(
        r"^powerprofilesctl set (?P<power_profile>\S+)",
        "keep",
        "governor",
        "only performance and power-saver can be held, so it stays a script",
        ("power_profile",),
    ),
    Meaning(
        rf"^write (?P<no_turbo>[01]) ?> ?{_CPU}no_turbo$",
        "table",
        "governor",
        "turbo frequencies",
        ("boost",),
    ),
    # Memory.
    Meaning(
        r"^write .*> ?\S*nr_(?:overcommit_)?hugepages\S*$|^sysctl\b.*\bvm[./]nr_\w*hugepages|"
        r"^hugeadm\b|^systemctl\b.*\bhugetlb-reserve",
        "table",
        "hugepages",
        "as many pages as the VM's memory needs are added, and removed again",
    ),
    Meaning(
        r"^(?:u?mount)\b.*\b(?:hugetlbfs|hugepages)",
        "needless",
        "hugepages",
        "systemd mounts it at boot, and libvirt looks for it only when it is started",
    ),
    Meaning(
        r"^write (?P<drop_caches>[123]) ?> ?/proc/sys/vm/drop_caches$|"
        r"^sysctl\b.*\bvm[./]drop_caches|^vfio-isolate\b.*\bdrop-caches",
        "table",
        "memory",
        "[hugepages] does it when it is needed; otherwise [memory] can",
        ("drop_caches",),
    ),
    Meaning(
        r"^write .*> ?/proc/sys/vm/compact_memory$|^sysctl\b.*\bvm[./]compact_memory|"
        r"^vfio-isolate\b.*\bcompact-memory",
        "table",
        "memory",
        "[hugepages] does it when it is needed; otherwise [memory] can",
        ("compact_memory",),
    ),
    Meaning(
        rf"^write (?P<value>-?\d+) ?> ?/proc/sys/(?:vm|kernel)/(?P<memory>{_SYSCTLS})$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("memory",),
    ),
    Meaning(
        rf"^sysctl\b.*\b(?:vm|kernel)[./](?P<memory>{_SYSCTLS})=(?P<value>-?\d+)",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("memory",),
    ),
    Meaning(
        r"^write (?P<ksm>[012]) ?> ?/sys/kernel/mm/ksm/run$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("ksm",),
    ),
    Meaning(
        r"^write (?P<transparent_hugepage>\w+) ?> ?/sys/kernel/mm/transparent_hugepage/enabled$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("transparent_hugepage",),
    ),
    Meaning(
        r"^write (?P<transparent_hugepage_defrag>\S+) ?> ?"
        r"/sys/kernel/mm/transparent_hugepage/defrag$",
        "table",
        "memory",
        "set while the VM runs, and restored afterwards",
        ("transparent_hugepage_defrag",),
    ),
    Meaning(
        r"^(?:touch|chown|chmod|chgrp|truncate|rm|install|setfacl)\b.*"
        r"(?P<path>/dev/(?:shm/\S+|kvmfr\d*))",
        "table",
        "shm",
        "the shared memory is made with its owner, and removed again",
    ),
    Meaning(
        r"^systemd-tmpfiles\b.*(?:looking-glass|scream|kvmfr)",
        "table",
        "shm",
        "the shared memory is made with its owner, and removed again",
    ),
    # The screen, sleep, services, programs.
    Meaning(
        r"^(?:systemctl|service|rc-service)\b.*\b(?:libvirtd|virtqemud)\b",
        "mistake",
        "",
        "libvirt waits for its hook, so a hook must not stop or restart it",
    ),
    Meaning(
        r"^write (?:remove|add|change)\b.*> ?\S*/drm/card\S*/uevent$",
        "table",
        "display",
        "the desktop is told that the card goes away, and closes it",
    ),
    Meaning(
        r"^(?:xrandr|wlr-randr|kscreen-doctor|gnome-randr|gdctl|hyprctl)\b.*"
        r"(?:--output|output|--off|monitor|dpms)|^swaymsg\b.* output ",
        "table",
        "display",
        "monitors are switched while the VM runs; the whole layout comes back",
    ),
    Meaning(
        r"^systemctl\b.*\blibvirt-nosleep|^systemd-inhibit\b|"
        r"^xset\b.*(?:[+-]dpms|s off|s on|s noblank|s default)|"
        r"^systemctl\b.*\b(?:un)?mask\b.*\b(?:sleep|suspend|hibernate)",
        "table",
        "inhibit",
        "the host does not sleep while the VM runs",
    ),
    Meaning(
        rf"^(?P<command>(?:\S*/)?{_HELPERS}\b.*)",
        "table",
        "process",
        "it runs as the user, with the session's display, and ends with the VM",
        ("command",),
    ),
    Meaning(
        rf"^(?:killall|pkill|kill)\b.*\b{_HELPERS}",
        "needless",
        "process",
        "it ends with the VM",
    ),
    Meaning(
        r"^systemctl\b(?!.*--user)(?:\s-\S+)*\s(?P<action>stop|start|restart)\s(?:-\S+\s)*"
        r"(?P<unit>[\w@.:\\-]+)",
        "table",
        "service",
        "the unit is stopped or started, and restored afterwards",
        ("unit", "action"),
    ),
    Meaning(
        r"^(?:service|rc-service)\s(?P<unit>[\w.-]+)\s(?P<action>stop|start|restart)",
        "table",
        "service",
        "the unit is stopped or started, and restored afterwards",
        ("unit", "action"),
    ),
    Meaning(
        r"^vfio-isolate\b.*\brestore\b",
        "needless",
        "",
        "everything is undone automatically",
    ),
    Meaning(
        r"^sleep\b",
        "mistake",
        "",
        "it waits too long or not long enough; vfio-hooks looks at what it waits for, with a "
        "time limit",
    ),
    Meaning(
        r"^write (?P<value>[^>]*?) ?> ?(?P<path>/(?:sys|proc/sys)/\S+)$",
        "table",
        "write",
        "sets any other value below /sys and /proc/sys, and restores it",
        ("path", "value"),
    ),
    Meaning(
        r"^sysctl\b.*\s(?P<path>[a-z][\w./]+)=(?P<value>\S+)",
        "table",
        "write",
        "sets any other value below /sys and /proc/sys, and restores it",
        ("path", "value"),
    ),
)


def meaning(command: str) -> tuple[Meaning, dict[str, str]] | None:
    """What a command's line of text is for, and the parts of it that the keys name; None for one
    that no pattern knows."""
    for one in MEANINGS:
        if found := re.search(one.pattern, command):
            return one, {name: part for name, part in found.groupdict().items() if part}
    return None
