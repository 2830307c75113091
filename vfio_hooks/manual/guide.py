"""The scripts of the VFIO tuning guide, line by line, and what does the same here.

The guide is "VFIO: Tuning your Windows gaming VM for optimal performance"; many hosts are set up
after it, and hooks/qemu.d/VFIO-NoHide/vm.toml is its host.
"""

from vfio_hooks.record import record


@record
class Line:
    """A line of a script, or several that are one step. `pause` is how long it sleeps, in
    seconds, whatever there is to wait for."""

    script: str
    here: str
    pause: float = 0


BOOT = (
    Line(
        "amd_iommu=on iommu=pt on the kernel's command line",
        "Stays: no hook can do that later. `vfio-hooks check` says what is missing.",
    ),
    Line(
        "vfio_pci, vfio and their like in mkinitcpio.conf",
        "Not needed: modules are loaded when a VM needs them.",
    ),
    Line(
        "options ixgbe max_vfs=2 in modprobe.d",
        "`[[sriov]]`: the VFs are made when the VM starts, and removed after it.",
    ),
)
START = (
    Line("sudo, asked for a password once", "Not needed: libvirt runs the hook as root."),
    Line(
        "cpupower frequency-set -g performance",
        "`[governor]`, for the CPUs that are the VM's and no others.",
    ),
    Line(
        "xrandr --output HDMI-A-0 --primary; sleep 2",
        "`[display]` with `primary`; it is waited for until the X server shows it.",
        2,
    ),
    Line(
        "xrandr --output DisplayPort-2-3 --off; sleep 2",
        "`[display]`, which finds the outputs of the VM's card itself; `off` names others.",
        2,
    ),
    Line("sleep 15, for X to catch up; sleep 1", "Nothing: what is waited for is looked at.", 16),
    Line("ip link set enp7s0f1 vf 1 vlan 69", "`[[sriov]]` with `pf`, `vf` and `vlan`."),
    Line("sh /root/remove_6900xt.sh", "`[pci]`, see below."),
    Line(
        "a loop that writes a mask to the smp_affinity of each vfio interrupt",
        "`[irqs]`: the interrupts of the VM's devices go to its CPUs, also when the guest's "
        "drivers ask for new ones.",
    ),
    Line(
        "barrier --config /home/grassyloki/barrierconfig.conf &",
        "`[[process]]` with `command`: as the user, with the session's display.",
    ),
    Line(
        "vfio-isolate cpuset-create --cpus N0 ... move-tasks / /host.slice",
        "`[cpus]`; which CPUs are the VM's is in its <vcpupin>.",
    ),
    Line("vfio-isolate -u /tmp/undo_irq irq-affinity mask C8-15,24-31", "`[irqs]`."),
    Line("sh hugetlb-reserve-pages.sh", "`[hugepages]`, with <memoryBacking> in the domain."),
    Line("virsh start VFIO-NoHide", "The same, or virt-manager: all of this is done by it."),
    Line("virsh vcpuinfo VFIO-NoHide | grep Affinity", "vfio-hooks verify VFIO-NoHide."),
)
REMOVE = (
    Line(
        "0000:45:00.0 > amdgpu/unbind; sleep 2; its ID > vfio-pci/new_id",
        "`[pci]`: each function by its address, not by an ID that a second card may have too. Who "
        "has it open is waited for and named; nothing is pulled from under X.",
        2,
    ),
    Line("the same for 45:00.1, the sound card; sleep 2, sleep 1", "`[pci]`.", 3),
    Line("the same for 45:00.2, the USB controller; sleep 2, sleep 1", "`[pci]`.", 3),
    Line("the same for 45:00.3, the serial bus; sleep 2, sleep 1", "`[pci]`.", 3),
)
STOP = (
    Line(
        "virsh shutdown VFIO-NoHide",
        "The same; and a shutdown from within Windows, or a crash, ends all of this as well.",
    ),
    Line(
        "vfio-isolate cpuset-delete /host.slice, and restore /tmp/undo_irq",
        "Undone by itself, as all that follows: the old values are in `/run/vfio-hooks`.",
    ),
    Line(
        "cpupower frequency-set -g ondemand",
        "Back to the governor from before, whatever that was.",
    ),
    Line("kill barrier's process, found with ps and grep", "Its unit is stopped."),
    Line("sh /root/reinit_6900xt.sh", "See below."),
    Line("sh /home/grassyloki/initdisplays.sh", "`[display]` has the whole layout from before."),
    Line("sleep .5", "Nothing.", 0.5),
)
RETURN = (
    Line(
        "wait until the VM is off, and 5 seconds more",
        "libvirt's event `release` comes when the devices are free.",
    ),
    Line("45:00.3 > vfio-pci/unbind; sleep 2; > i2c-designware-pci/bind", "`[pci]`.", 2),
    Line("the same for 45:00.2 and xhci_hcd", "`[pci]`.", 2),
    Line("the same for 45:00.1 and snd_hda_intel", "`[pci]`.", 2),
    Line(
        "the same for 45:00.0 and amdgpu, which never quite worked",
        "`[pci]`, which waits for the driver, this one's last. One that refuses the card gets it "
        "from `[gpu]`, which removes it from the bus and finds it anew.",
        2,
    ),
)
SCRIPTS = (
    ("Before: the host's boot", BOOT),
    ("The start script", START),
    ("remove_6900xt.sh", REMOVE),
    ("The stop procedure", STOP),
    ("reinit_6900xt.sh", RETURN),
)


def pauses() -> float:
    """How long the scripts sleep in one start and stop of the VM, in seconds."""
    return sum(line.pause for _, lines in SCRIPTS for line in lines)
