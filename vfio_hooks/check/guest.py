"""What no rule can see, as it is inside of the guest: the text that `check` ends with."""

ADVICE: tuple[str, ...] = (
    "MSI: devices that share a line interrupt cost latency. Windows' device manager shows the "
    "mode under Resources (a negative number is MSI); on Linux, /proc/interrupts.",
    "Latency: LatencyMon on Windows names the driver that holds the CPU.",
    "PCIe link and resizable BAR: GPU-Z on Windows, `lspci -vv` on Linux, shows whether the "
    "graphics card has a PCIe link and a BAR as large as its memory.",
    "Page file: some games need one as large as the memory.",
)
