"""What the forum thread advises, piece by piece."""

from vfio_hooks.manual.advice import GUEST, Advice, advice

THREAD: dict[str, tuple[Advice, ...]] = {
    "PCI Express for the guest": (
        advice("q35: i440fx has no PCI Express.", "machine-q35"),
        advice("The card behind a root port, not on the root bus.", "pci-root-bus"),
        advice(
            "Functions in one slot, function 0 first, multifunction.",
            "pci-functions-apart pci-multifunction pci-no-function-0",
        ),
        advice(
            "By libvirt's XML, not qemu:commandline, so that the driver comes back.",
            "device-not-managed",
        ),
        advice(
            "See the link's speed with lspci.",
            "link-width link-speed link-slot",
            GUEST,
        ),
        advice(
            "A ROM file.",
            "device-rom-file device-rom-owner",
            "A finding only where it cannot be read.",
        ),
        advice(
            "No x-vga; no multifunction on a port with one device.",
            note="libvirt's XML has neither as a matter of course.",
        ),
        advice(
            "Reset trouble after an unclean end.",
            note="No finding: vfio-hooks iommu shows the resets that a device has.",
        ),
    ),
    "QEMU's arguments": (
        advice("-machine q35,vmport=off,kernel-irqchip=on", "machine-q35 machine-ioapic"),
        advice("accel=kvm", "machine-emulated kvm-off kvm-paging-off"),
        advice(
            "-cpu host, l3-cache=on, migratable=no, +invtsc",
            "cpu-mode cpu-cache cpu-migratable",
        ),
        advice(
            "hv_ flags",
            "hyperv-off",
        ),
        advice("hv_vendor_id, kvm=off, -hypervisor", "cpu-hypervisor-off device-kvm-hidden"),
        advice("-realtime mlock=on, -mem-prealloc", "memory-locked memory-host"),
        advice("-smp with threads=2", "cpu-topology pins-siblings"),
        advice("S3 and S4 off", "machine-sleep"),
        advice(
            "-rtc base=localtime,driftfix=slew; the PIT's lost ticks; -no-hpet",
            "clock-offset clock-ticks clock-hpet",
        ),
        advice("A tap device with vhost", "nic-model"),
        advice(
            "cache=none, aio=native, discard; virtio",
            "disk-cache disk-io-cache disk-discard disk-bus",
        ),
        advice("ivshmem for Looking Glass", note="No finding: it is a program of its own."),
        advice("-soundhw", note="No finding: emulated sound is what most users want."),
        advice("A virtio keyboard, no tablet", "extra-tablet"),
        advice("UEFI firmware", "machine-bios"),
    ),
    "And beside it": (
        advice(
            "Pin the threads of the CPUs, with the memory beside them.",
            "pins-none node-memory node-pins",
        ),
    ),
}
