"""What no rule can see, because it is inside the guest: the text that `check` ends with."""

ADVICE: tuple[str, ...] = (
    "Drivers: since libvirt 12.7 and with QEMU's guest agent, `virsh guestinfo VM --devices` lists "
    "the guest's devices with their drivers.",
    "Interrupts: message-signalled ones (MSI, MSI-X) cause less stutter than line interrupts, "
    "which devices share. Windows: device manager, View, Resources by type: a negative number is "
    "MSI; "
    "the MSI utility of the guru3d forum switches it on, also for a graphics card's sound. Linux: "
    "/proc/interrupts.",
    "PCI Express: GPU-Z on Windows, `lspci -vv` on Linux, shows the card's link and whether "
    "Resizable BAR is on. The host's firmware has to have it on, and the guest's firmware (OVMF) "
    "has to support it.",
    "Stutter: LatencyMon on Windows names the driver that takes too long.",
    "A few games crash because they run out of memory: use a page file of a fixed size, as large "
    "as the memory, on a fast disk.",
)
