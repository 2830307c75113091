"""vfio-hooks-migration(7): what to write in place of scripts and tools that people have."""

from collections.abc import Sequence

from vfio_hooks import __version__
from vfio_hooks.manual.guide import SCRIPTS, pauses
from vfio_hooks.manual.roff import Page

_DESCRIPTION = """\
Who has passed devices to a VM until now has scripts for it, mostly from one of a few places. This
page says, piece by piece, what to write into the VM's `vm.toml` instead. The tables and their keys
are in `vfio-hooks.toml`(5).

`vfio-hooks migrate VM` does it for you: it reads a VM's scripts, says what becomes of each line,
and with --write puts the tables in their place.

One piece can follow the other: executables in the VM's folder go on being run. What a table does
need not be undone by a script, so a line leaves the start script and the stop script together.
After each step look at what would happen, which changes nothing:

    vfio-hooks plan win11
"""
_FIRST = """\
No script may call virsh at all: libvirt waits for its hook, and virsh for libvirt.
"""
_GUIDE = f"""\
The guide "VFIO: Tuning your Windows gaming VM for optimal performance" has a start script, a stop
procedure and two scripts for the graphics card. Its host, as a whole, is the example
`hooks/qemu.d/VFIO-NoHide/vm.toml`. In one start and stop these scripts sleep for {pauses():g}
seconds; here nothing sleeps, as each thing is waited for until it is so.
"""
_VFIO_TOOLS = (
    (
        "libvirt_hooks/qemu, the dispatcher",
        "`install.sh` puts its own in this place and keeps the old one as `qemu.replaced`. The "
        "executables in `qemu.d/VM/OPERATION/SUB-OPERATION/` are run as before, now in the order "
        "of their names, and a VM's name may have any characters.",
    ),
    ("hooks/alloc_hugepages.sh, better_hugepages.sh, hugepages.sh", "`[hugepages]`"),
    (
        "hooks/unalloc_hugepages.sh",
        "Nothing: as many pages as the VM added are taken away when it ends.",
    ),
    ("hooks/cset.sh", "`[cpus]` and `[irqs]`. cset needs cgroup v1, which new hosts have not."),
    (
        "hooks/nice.sh",
        "<vcpusched> and <emulatorsched> in the domain's <cputune>; libvirt sets them itself.",
    ),
    (
        "hooks/switch_displays.sh, which has the monitor change its input",
        "Keep it, as an executable for started/begin and one for release/end; or a `[[process]]` "
        "that runs ddcutil. Outputs of the host's desktop are for `[display]`.",
    ),
    (
        "vfioselect",
        "`[pci]`, with the devices as <hostdev> in the domain; vfio-hooks iommu shows what there "
        "is, with the IOMMU groups.",
    ),
)
_SINGLE_GPU = (
    (
        "systemctl stop display-manager, and a loop until it has stopped",
        "`[session]`: whatever display manager there is, and it is waited for until nobody has the "
        "card open. Who does not let go is named, and the desktop comes back.",
    ),
    (
        "killall gdm-x-session, systemctl isolate multi-user.target, systemctl --user -M USER@ "
        "stop plasma*",
        "`[session]`: the sessions end with the display manager, and no other service does. Should "
        "a program of theirs stay: `leftovers`.",
    ),
    (
        "echo 0 > /sys/class/vtconsole/vtcon0/bind, and vtcon1",
        "`[session]`: the console on a framebuffer, whichever that is; it is bound again after the "
        "VM, and that is checked.",
    ),
    (
        "echo efi-framebuffer.0 > .../efi-framebuffer/unbind",
        "`[session]`: the framebuffer that sits on the card, which on a new kernel has another "
        "name (simple-framebuffer, simpledrm).",
    ),
    (
        "modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia",
        "`[session]`: the driver's modules that are loaded, in their order. nvidia-persistenced "
        "and nvidia-powerd are stopped before, and run again after.",
    ),
    (
        "modprobe -r i2c_nvidia_gpu drm_kms_helper",
        "`[pci]`, with all functions of the card as <hostdev>: each is taken off its driver. "
        "drm_kms_helper holds no card, and stays.",
    ),
    (
        "modprobe -r amdgpu",
        "As a rule nothing: the card is taken off it. `[session]` with `modules`, should it not "
        "let go.",
    ),
    (
        "echo 1 > .../remove and echo 1 > /sys/bus/pci/rescan",
        "`[gpu]`, where the card's driver does not take it back by itself.",
    ),
    ("sleep 2, sleep 5, sleep 10", "Nothing: everything is waited for, and has its time limit."),
    (
        "virsh nodedev-detach pci_0000_01_00_0",
        "managed='yes' at the <hostdev>, as virt-manager writes it, and `[pci]`. virsh in a hook "
        "can hang libvirt.",
    ),
    ("modprobe vfio-pci", "Nothing: libvirt or `[pci]` does it."),
    (
        "modprobe -r vfio-pci, virsh nodedev-reattach pci_0000_01_00_0",
        "Nothing: libvirt gives the devices back, and `[pci]` sees to it that they have their "
        "drivers. vfio-pci may stay loaded.",
    ),
    (
        "revert.sh, vfio-teardown.sh: all of that backwards",
        "Nothing. It is undone when the VM ends, when its start fails half way, and by "
        "vfio-hooks undo VM.",
    ),
    (
        "echo 1 > .../0000:01:00.0/remove; echo 1 > /sys/bus/pci/rescan; a suspend with rtcwake",
        "`[gpu]`, which does the first two for a card that does not come back otherwise.",
    ),
    ("echo device_specific > .../reset_method", "`[gpu]` with `reset_method`"),
    (
        "touch /dev/shm/looking-glass, chown and chmod, or a file in tmpfiles.d",
        "`[[shm]]`, with `owner`; the size is that of the domain's <shmem>.",
    ),
    ("looking-glass-client, scream or barrier, started with &", "`[[process]]`"),
    ("libvirt-nosleep@.service, started and stopped by the hook", "`[inhibit]`"),
    ("kvm.conf with addresses of devices", "Nothing: they are in the domain's XML."),
    (
        "cpupower or a loop over scaling_governor, and ondemand or powersave at the end",
        "`[governor]`; afterwards each CPU has the governor that it had.",
    ),
    (
        "systemctl set-property --runtime -- system.slice AllowedCPUs=0-3",
        "`[cpus]`, also for two VMs at once.",
    ),
    ("echo 8192 > /proc/sys/vm/nr_hugepages, and 0 at the end", "`[hugepages]`"),
    ("/bin/vfio-startup.sh of a shared hook, for the VM named win10", "A folder for each VM."),
)
_SINGLE_EXAMPLE = """\
A whole start.sh and revert.sh of such a repository is this vm.toml:

    [inhibit]
    [session]
    [gpu]
    [pci]
"""
_ISOLATE = (
    ("cpuset-create, cpuset-modify and move-tasks", "`[cpus]`"),
    ("cpuset-delete", "Nothing: it is undone when the VM ends."),
    ("irq-affinity mask C4-7", "`[irqs]`, which also tells irqbalance."),
    ("irq-affinity add", "`[irqs]`: the VM's own interrupts come to its CPUs."),
    (
        "cpu-governor performance C4-7",
        "`[governor]`, with `cpus` and `governor` where they differ.",
    ),
    (
        "drop-caches, compact-memory",
        "`[memory]` with `drop_caches` or `compact_memory`. `[hugepages]` does both by itself, "
        "where they are needed.",
    ),
    (
        "-u FILE and restore FILE",
        "Nothing. The values from before are kept for each VM; two VMs do not undo each other.",
    ),
    ("C0-3,8 and N1 for sets of CPUs", "None is needed: <vcpupin> in the domain says which."),
)


def page() -> str:
    made = Page(
        "vfio-hooks-migration",
        7,
        f"vfio-hooks {__version__}",
        "coming from scripts, VFIO-Tools, single-GPU hooks or vfio-isolate",
    )
    made.section("DESCRIPTION")
    made.prose(_DESCRIPTION)
    made.prose(_FIRST)
    made.section("THE TUNING GUIDE")
    made.prose(_GUIDE)
    for title, lines in SCRIPTS:
        made.part(title)
        _list(made, [(line.script, line.here) for line in lines])
    for title, pairs in (("VFIO-TOOLS", _VFIO_TOOLS), ("SINGLE-GPU HOOKS", _SINGLE_GPU)):
        made.section(title)
        _list(made, pairs)
    made.prose(_SINGLE_EXAMPLE)
    made.section("VFIO-ISOLATE")
    _list(made, _ISOLATE)
    made.section("SEE ALSO")
    made.prose("`vfio-hooks`(1), `vfio-hooks.toml`(5), `vfio-hooks-check`(7)")
    return str(made)


def _list(page: Page, pairs: Sequence[tuple[str, str]]) -> None:
    for script, here in pairs:
        page.item([f"`{script}`"], here)
