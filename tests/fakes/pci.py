"""PCI functions and their drivers: bound, unbound, and probed as driver_override says."""

import errno

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"


class Bus:
    """The part of a kernel in memory that is its PCI bus."""

    files: dict[str, str]
    links: dict[str, str]
    home: dict[str, str]
    """The driver that takes a function when nothing overrides it."""

    def add_pci(
        self,
        address: str,
        driver: str | None,
        group: str = "1",
        device_class: str = "0x030000",
        override: str = "(null)",
    ) -> None:
        """Put a function into the host, bound to a driver."""
        folder = f"{DEVICES}/{address}"
        self.files |= {
            f"{folder}/driver_override": override + "\n",
            f"{folder}/class": device_class + "\n",
            f"{folder}/vendor": "0x1002\n",
            f"{folder}/device": "0x73bf\n",
            f"{folder}/modalias": f"pci:{address}\n",
        }
        self.links[f"{folder}/iommu_group"] = group
        self.links[f"/sys/kernel/iommu_groups/{group}/devices/{address}"] = address
        if driver:
            self.files[f"{DRIVERS}/{driver}/uevent"] = "\n"
            self.links[f"{folder}/driver"] = driver
            if override == "(null)":
                self.home[address] = driver

    def bind_as_libvirt(self, address: str) -> None:
        """What libvirt does to a function with managed='yes' before the guest runs."""
        self._rebind(address, "vfio-pci")

    def give_back_as_libvirt(self, address: str) -> None:
        """What libvirt does to it after the guest ended."""
        self._rebind(address, "(null)")

    def unbind(self, address: str, text: str) -> None:
        """A write to driver/unbind."""
        if text != address or f"{DEVICES}/{address}/driver" not in self.links:
            raise OSError(errno.ENODEV, "No such device", address)
        del self.links[f"{DEVICES}/{address}/driver"]

    def probe(self, address: str) -> None:
        """A write to drivers_probe."""
        link = f"{DEVICES}/{address}/driver"
        if link in self.links:
            return
        override = self.files[f"{DEVICES}/{address}/driver_override"].strip()
        driver = self.home.get(address) if override in ("", "(null)") else override
        if driver and any(name.startswith(f"{DRIVERS}/{driver}/") for name in self.files):
            self.links[link] = driver

    def _rebind(self, address: str, override: str) -> None:
        self.files[f"{DEVICES}/{address}/driver_override"] = override + "\n"
        if f"{DEVICES}/{address}/driver" in self.links:
            self.unbind(address, address)
        self.probe(address)
