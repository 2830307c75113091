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
    fragile: set[str]
    """Functions that no driver takes after a guest had them, until the bus is searched anew."""
    broken: set[str]
    removed: dict[str, tuple[dict[str, str], dict[str, str]]]

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
            f"{folder}/remove": "\n",
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
        if self.links.pop(f"{DEVICES}/{address}/driver") == "vfio-pci":
            self.broken |= self.fragile & {address}
            self._set_power(address, "on")

    def probe(self, address: str) -> None:
        """A write to drivers_probe."""
        link = f"{DEVICES}/{address}/driver"
        if link in self.links:
            return
        override = self.files[f"{DEVICES}/{address}/driver_override"].strip()
        driver = self.home.get(address) if override in ("", "(null)") else override
        usable = driver == "vfio-pci" or address not in self.broken
        if (
            driver
            and usable
            and any(name.startswith(f"{DRIVERS}/{driver}/") for name in self.files)
        ):
            self.links[link] = driver
            if driver == "vfio-pci":
                self._set_power(address, "auto")

    def _set_power(self, address: str, value: str) -> None:
        control = f"{DEVICES}/{address}/power/control"
        if control in self.files:
            self.files[control] = value + "\n"

    def resize(self, address: str, bar: int, text: str) -> None:
        """A write to a function's `resourceN_resize`: the exponent of two of a number of MiB."""
        if f"{DEVICES}/{address}/driver" in self.links:
            raise OSError(errno.EBUSY, "Device or resource busy", address)
        path = f"{DEVICES}/{address}/resource"
        lines = self.files[path].splitlines()
        last = 0xD0000000 + (1 << (20 + int(text))) - 1
        lines[bar] = f"0xd0000000 {last:#x} 0x0014220c"
        self.files[path] = "\n".join(lines) + "\n"

    def remove_function(self, address: str) -> None:
        """A write to a function's `remove`."""
        folder = f"{DEVICES}/{address}/"
        files = {path: text for path, text in self.files.items() if path.startswith(folder)}
        links = {path: to for path, to in self.links.items() if path.startswith(folder)}
        self.removed[address] = (files, links)
        for path in files:
            del self.files[path]
        for path in links:
            del self.links[path]

    def rescan(self) -> None:
        """A write to the bus's `rescan`: removed functions come back as after power-on."""
        for address in list(self.removed):
            files, links = self.removed.pop(address)
            folder = f"{DEVICES}/{address}"
            self.files |= files | {f"{folder}/driver_override": "(null)\n"}
            self.links |= {path: to for path, to in links.items() if path != f"{folder}/driver"}
            self.broken.discard(address)
            self.probe(address)

    def _rebind(self, address: str, override: str) -> None:
        self.files[f"{DEVICES}/{address}/driver_override"] = override + "\n"
        if f"{DEVICES}/{address}/driver" in self.links:
            self.unbind(address, address)
        self.probe(address)
