"""What the tuning guide advises, piece by piece."""

from vfio_hooks.manual.advice import GUEST, Advice, advice

_TASTE = "No finding: that depends on what the machine is for."

GUIDE: dict[str, tuple[Advice, ...]] = {
    "Host hardware": (
        advice("Use libvirt, not QEMU's command line.", note="All of this is about libvirt's."),
        advice(
            "Have a recent kernel and QEMU.",
            note="No finding: which is new enough depends on the hardware.",
        ),
        advice("A host with NUMA nodes needs care.", "node-pins node-memory node-device"),
        advice(
            "Give a fast network to the guest as a VF.",
            "nic-model",
            "[[sriov]] makes the VF and its VLAN.",
        ),
        advice("Pass a whole SSD.", "disk-bus", _TASTE),
    ),
    "Host configurations": (
        advice("Resizable BAR on.", "rebar-small"),
        advice("Above 4G decoding on.", "above-4g-off"),
        advice("IOMMU on.", "iommu-off"),
        advice(
            "ACS override only for groups of no use.", "acs-override group-shared gpu-group-mixed"
        ),
        advice("Boot by UEFI, without CSM.", "legacy-boot"),
        advice("The initial display is not the passed card.", "boot-display-passed"),
        advice("Only a stable overclock.", note="No finding: only a long load test shows that."),
    ),
    "Boot and kernel parameters": (
        advice("amd_iommu=on", "iommu-parameter-without-effect iommu-off"),
        advice(
            "vfio_iommu_type1.allow_unsafe_interrupts=1",
            "unsafe-interrupts interrupt-remapping-off",
            "It does not change timing, and is only for hosts that cannot remap interrupts.",
        ),
        advice(
            "kvm.ignore_msrs=1",
            "kvm-msrs-logged",
            "Only for a guest that crashes without; nothing of the host tells that.",
        ),
        advice("iommu=pt", "iommu-translates-host"),
        advice("VFIO's modules in the initramfs.", "vfio-missing vfio-too-late vfio-virqfd-gone"),
        advice(
            "amdgpu in the initramfs, for a card that the host uses as well.",
            "vfio-too-late",
            "[pci] gives the card back to the driver that it had.",
        ),
        advice(
            "VFs by the module option max_vfs.", "sriov-max-vfs", "[[sriov]] makes them instead."
        ),
    ),
    "ZFS": (
        advice(
            "Compression, record size, encryption, no access times.",
            note="No finding: a pool is laid out for its data, not for VMs alone.",
        ),
        advice("A volume (zvol) for the guest's disk.", "disk-cache disk-io-cache disk-discard"),
        advice("Limit the ARC.", "zfs-arc-large"),
    ),
    "Start VM script": (
        advice(
            "The governor performance.",
            "governor-slow vm-tables cpufreq-driver-missing cpufreq-driver-old",
        ),
        advice(
            "Another primary monitor, and the card's own off.",
            note="No finding: which one is the user's choice. [display] does it.",
        ),
        advice("The VF's VLAN.", note="[[sriov]] sets it."),
        advice(
            "Take the card from its driver, function by function.",
            "device-not-managed vm-unmanaged",
            "[pci] waits for each instead of sleeping.",
        ),
        advice("The VFIO interrupts onto the guest's CPUs.", "vm-tables"),
        advice(
            "Programs beside the VM, such as Barrier.",
            note="No finding: which is the user's choice. A table of vm.toml, or an executable "
            "in the VM's folder, does it.",
        ),
        advice(
            "Host programs off the VM's CPUs (vfio-isolate).",
            "vm-tables cpus-isolated-at-boot cgroup-v1 cgroup-no-cpusets",
        ),
        advice("Host interrupts off the VM's CPUs (vfio-isolate).", "vm-tables"),
        advice(
            "Hugepages when the VM starts, not at boot.",
            "hugepages-idle memory-pool thp-never",
        ),
        advice(
            "See the affinity of the vCPUs.",
            "pins-none pins-missing pins-wide",
            "vfio-hooks verify looks at a VM that runs.",
        ),
        advice("Undo all of it at the end.", "journal-stale", "The hook does, also after a crash."),
        advice(
            "Start and stop the VM by virsh in the same script.",
            "script-calls-virsh",
            "libvirt calls the hook; a hook must not call libvirt.",
        ),
    ),
    "Removing the GPU, and getting it back": (
        advice(
            "The passed card is not X's primary.",
            "boot-display-passed",
            "What X uses is seen in the session only: xrandr --listproviders.",
        ),
        advice(
            "Write the card's ID into new_id.",
            "vfio-ids-ambiguous",
            "[pci] names the one device instead.",
        ),
        advice("All functions of the card.", "group-shared pci-functions-apart"),
        advice(
            "Wayland rather than Xorg, which cannot lose a card.",
            note="No finding: a matter of the user's session.",
        ),
        advice(
            "Wait some seconds after the VM's end.",
            note="The hook waits for what it needs, with a limit.",
        ),
        advice(
            "The card's functions back in order.",
            note="The hook undoes its steps in reverse. Where a card needs a reset that it "
            "does not have, vfio-hooks iommu shows which it has.",
        ),
    ),
    "NUMA": (
        advice("The card at the node of the VM's CPUs.", "node-device"),
        advice(
            "The host on one node, the VM on another; no half cores.",
            "node-pins pins-half-core pins-cpu-0",
        ),
    ),
    "Libvirt configuration": (
        advice(
            "A core's two threads are two threads of the guest.",
            "pins-siblings pins-twice cpu-topology",
            "vfio-hooks topology draws it.",
        ),
        advice(
            "Pins that keep the caches: one L3 where it fits.", "node-cache cpu-cache node-kinds"
        ),
        advice("host-passthrough.", "cpu-mode"),
        advice(
            "migratable=on.",
            "cpu-migratable",
            "Mitigations do not depend on it, as the guide has it.",
        ),
        advice("Mitigations stay on.", "mitigations-off"),
        advice("topoext.", "cpu-topoext"),
        advice(
            "Clock and timers.",
            "clock-offset clock-ticks clock-hyperv clock-hpet clock-not-tsc",
        ),
        advice(
            "Hide the hypervisor from games.",
            "cpu-hypervisor-off device-kvm-hidden",
            "A finding where it costs; what a game allows is between it and the user.",
        ),
        advice("An iothread for each fast disk, pinned.", "disk-iothread pins-iothread"),
        advice("Pin the emulator.", "pins-emulator"),
        advice("Machine type q35, the newest.", "machine-q35"),
        advice("UEFI firmware.", "machine-bios machine-firmware-file"),
        advice(
            "smbios mode='host', and a disk's made-up serial number.",
            note="No finding: both only hide that it is a VM.",
        ),
        advice(
            "Hyper-V enlightenments on.",
            "hyperv-off hyperv-stimer-direct",
        ),
        advice(
            "Those that are off: reset, reenlightenment, evmcs.",
            "hyperv-evmcs hyperv-evmcs-on-amd kvm-nested-off",
        ),
        advice("hyperv mode='passthrough'.", "hyperv-passthrough"),
        advice(
            "No vmport; the kernel's I/O APIC.",
            "machine-ioapic",
            "A finding with pc-q35-4.0 only, where it is off. vmport costs nothing.",
        ),
        advice("No sleep and no hibernation.", "machine-sleep"),
        advice("Disks: threads, no cache, discard.", "disk-io-cache disk-cache disk-discard"),
        advice(
            "What its XML also has: tablet, QXL, balloon.",
            "extra-tablet extra-video memory-balloon",
        ),
        advice(
            "Sound through a passed USB controller.",
            note="No finding: emulated sound is what most users want.",
        ),
    ),
    "Windows settings": (
        advice("A page file as large as the memory.", note=GUEST),
        advice("MSI for each device.", "device-line-interrupt", f"While it runs. {GUEST}"),
        advice("See in GPU-Z if Resizable BAR is on.", "rebar-small", GUEST),
    ),
    "Diagnosing issues": (
        advice("LatencyMon.", note=GUEST),
        advice("dmesg and libvirt's logs.", note="`vfio-hooks why` reads and explains them."),
        advice(
            "NUMA hits and misses; who uses the CPUs.",
            note="vfio-hooks verify tells both for a VM.",
        ),
    ),
    "Comments": (
        advice(
            "A Threadripper that shows one node.",
            "node-cache",
            "No finding else: whether the firmware interleaves memory is not told to Linux.",
        ),
        advice("With passthrough the other lines matter less.", "hyperv-passthrough"),
    ),
}
