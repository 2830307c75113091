"""A host as a folder of plain files, for `--root` and for binding over /sys in a sealed run."""

from collections.abc import Iterable
from pathlib import Path

from vfio_hooks.host.cpulist import format_mask


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


def add_cpus(
    root: Path, nodes: int = 2, cores: int = 8, threads: int = 2, per_l3: int = 4, memory: int = 16
) -> Path:
    """Processors as the guide's Threadripper numbers them: all first threads, node by node, then
    all second ones. `cores` and `memory` (GiB) are a node's; `per_l3` cores share a cache."""
    total = nodes * cores
    folder = root / "sys/devices/system"
    _write(folder / "cpu/online", f"0-{total * threads - 1}")
    for cpu in range(total * threads):
        core = cpu % total
        first = core - core % per_l3
        below = folder / f"cpu/cpu{cpu}"
        _write(below / "topology/thread_siblings", _mask([core], total, threads))
        _write(below / "topology/core_siblings", _mask(range(total), total, threads))
        _write(below / "cache/index3/level", "3")
        _write(below / "cache/index3/type", "Unified")
        _write(below / "cache/index3/size", "8192K")
        shared = _mask(range(first, first + per_l3), total, threads)
        _write(below / "cache/index3/shared_cpu_map", shared)
    for node in range(nodes):
        near = range(node * cores, node * cores + cores)
        below = folder / f"node/node{node}"
        _write(below / "cpumap", _mask(near, total, threads))
        _write(below / "meminfo", f"Node {node} MemTotal: {memory << 20} kB")
        _write(below / "distance", " ".join("10" if to == node else "16" for to in range(nodes)))
    _write(root / "proc/meminfo", f"MemTotal: {nodes * memory << 20} kB\nHugepagesize: 2048 kB")
    return root


def guides_host(root: Path) -> Path:
    """The host of the tuning guide: two nodes, with the VM's devices at node 1."""
    add_cpus(root)
    _write(root / "proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm topoext")
    _write(root / "proc/misc", "232 kvm\n 10 vfio")
    _write(root / "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc")
    _write(root / "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
    for address, device_class, ids, node in (
        ("0000:45:00.0", "0x030000", "1002:73bf", 1),
        ("0000:45:00.1", "0x040300", "1002:ab28", 1),
        ("0000:45:00.2", "0x0c0330", "1002:73a6", 1),
        ("0000:45:00.3", "0x0c8000", "1002:73a4", 1),
        ("0000:42:00.0", "0x010802", "1987:5012", 1),
        ("0000:0b:00.3", "0x0c0330", "1022:145c", 0),
        ("0000:07:10.1", "0x020000", "8086:10ed", 0),
        ("0000:07:10.3", "0x020000", "8086:10ed", 0),
    ):
        add_pci(root, address, "vfio-pci", str(int(address[5:7], 16)), device_class, ids)
        folder = root / "sys/bus/pci/devices" / address
        _write(folder / "numa_node", str(node))
        if address.startswith("0000:07:10"):
            (folder / "physfn").symlink_to(f"../0000:07:00.{address[-1]}")
            _write(root / f"sys/bus/pci/devices/0000:07:00.{address[-1]}/class", "0x020000")
    return root


def _mask(cores: Iterable[int], total: int, threads: int) -> str:
    return format_mask(core + total * thread for core in cores for thread in range(threads))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
