"""A host as a folder of plain files, for `--root` and for binding over /sys in a sealed run."""

from pathlib import Path


def add_pci(
    root: Path,
    address: str,
    driver: str | None,
    group: str | None = "1",
    device_class: str = "0x030000",
    ids: str = "1002:73bf",
) -> None:
    """Put a PCI function into the tree, bound to a driver and in an IOMMU group."""
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    vendor, device = ids.split(":")
    for name, text in (
        ("driver_override", "(null)"),
        ("class", device_class),
        ("vendor", "0x" + vendor),
        ("device", "0x" + device),
        ("modalias", f"pci:v0000{vendor}d0000{device}"),
    ):
        (folder / name).write_text(text + "\n")
    if driver:
        drivers = root / "sys/bus/pci/drivers" / driver
        drivers.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
        (drivers / "unbind").touch()
    if group is not None:
        (folder / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{group}")
        members = root / "sys/kernel/iommu_groups" / group / "devices"
        members.mkdir(parents=True, exist_ok=True)
        (members / address).symlink_to(f"../../../../bus/pci/devices/{address}")


def gpu_host(root: Path) -> Path:
    """A host with the guide's graphics card: three functions, one IOMMU group, behind a bridge."""
    add_pci(root, "0000:03:00.0", "pcieport", "7", "0x060400")
    add_pci(root, "0000:04:00.0", "amdgpu", "7")
    add_pci(root, "0000:04:00.1", "snd_hda_intel", "7", "0x040300", "1002:ab28")
    add_pci(root, "0000:04:00.2", "xhci_hcd", "7", "0x0c0330", "1002:73a6")
    add_pci(root, "0000:05:00.0", "e1000e", "8", "0x020000", "8086:10d3")
    (root / "sys/bus/pci/drivers/vfio-pci").mkdir()
    (root / "sys/bus/pci/drivers_probe").touch()
    return root


def domain_xml(
    name: str = "win11",
    uuid: str = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11",
    functions: tuple[str, ...] = ("0000:04:00.0", "0000:04:00.1", "0000:04:00.2"),
    managed: str = "yes",
    more: str = "",
) -> str:
    """A domain as libvirt writes it to a hook."""
    hostdevs = "".join(_hostdev(address, managed) for address in functions)
    return (
        f"<domain type='kvm' id='3'>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n{more}"
        f"  <devices>\n{hostdevs}  </devices>\n</domain>\n"
    )


def _hostdev(address: str, managed: str) -> str:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        f"    <hostdev mode='subsystem' type='pci' managed='{managed}'>\n"
        f"      <driver name='vfio'/>\n      <source>\n"
        f"        <address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}'"
        f" function='0x{function}'/>\n      </source>\n    </hostdev>\n"
    )
