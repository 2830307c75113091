"""What can be wrong with a domain: the defect of each rule, made in a domain that has none.

The host is the guide's, with all that the good domain wants.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hosttree import add_cpus, add_pci

DOMAINS = Path(__file__).parent / "domains"
GOOD = (DOMAINS / "good.xml").read_text()
Edits = Sequence[tuple[str, str]]
Change = Callable[[Path], object]
Defect = tuple[str, Edits, Change | None]
"""A rule's name, what is wrong in the XML, and what on the host."""


def edited(edits: Edits, xml: str = GOOD) -> str:
    """The XML with each text (or /pattern/, taken away) replaced; each has to be there."""
    for old, new in edits:
        if old.startswith("/"):
            changed = re.sub(rf"[ ]*{old[1:-1]}\n", new, xml)
        else:
            changed = xml.replace(old, new)
        assert changed != xml, old
        xml = changed
    return xml


def write(name: str, text: str) -> Change:
    def change(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    return change


INTERRUPTS = "           CPU0\n 77:    12  IR-IO-APIC 24-fasteoi  vfio-intx(0000:45:00.0)"
UNPINNED: Edits = ((r"/<cputune>(?s:.)*?</cputune>/", ""),)
NO_DEVICES: Edits = ((r"/<hostdev(?s:.)*</hostdev>/", ""),)
LINUX: Edits = (("http://microsoft.com/win/11", "http://debian.org/debian/13"),)
XP: Edits = (("http://microsoft.com/win/11", "http://microsoft.com/win/xp"),)
TCG: Edits = (("type='kvm'", "type='qemu'"),)
PINS_OF_TWO_NODES: Edits = (
    ("<vcpupin vcpu='6' cpuset='11'/>", "<vcpupin vcpu='6' cpuset='4'/>"),
    ("<vcpupin vcpu='7' cpuset='27'/>", "<vcpupin vcpu='7' cpuset='20'/>"),
)
CELL = "<cell id='0' cpus='0-3' memory='9'/>"
ADDRESS = "type='pci' domain='0x0000' bus='0x01' slot='0x00' function="
APART: Edits = ((f"{ADDRESS}'0x1'", ADDRESS.replace("0x01", "0x03") + "'0x0'"),)


SCSI: Edits = (
    ("bus='virtio'", "bus='scsi'"),
    (" iothread='1'/>", "/>"),
    ("<memballoon", "<controller type='scsi' model='virtio-scsi'/>\n    <memballoon"),
)


NO_THREAD: Edits = (
    ("  <iothreads>1</iothreads>\n", ""),
    ("    <iothreadpin iothread='1' cpuset='13,29'/>\n", ""),
)


OVERRIDE: Edits = (
    (
        "</domain>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg "
        "value='-cpu'/><qemu:arg value='host,hv_relaxed'/></qemu:commandline></domain>",
    ),
)


def qemu(text: str, space: str = "http://libvirt.org/schemas/domain/qemu/1.0") -> Edits:
    """Elements of QEMU's namespace at the end of the domain."""
    return (("</domain>", f"{text}</domain>"), ("<domain ", f"<domain xmlns:qemu='{space}' "))


def overriding(alias: str) -> Edits:
    return qemu(f"<qemu:override><qemu:device alias='{alias}'/></qemu:override>")


def arguments(*words: str) -> Edits:
    given = "".join(f"<qemu:arg value='{one}'/>" for one in words)
    return qemu(f"<qemu:commandline>{given}</qemu:commandline>")


MACOS: Edits = (
    ("http://microsoft.com/win/11", "http://apple.com/macos/13"),
    (r"/<hyperv(?s:.)*?</hyperv>/", ""),
)
TPM: Edits = ((r"/<tpm(?s:.)*?</tpm>/", ""),)
NO_BIT: Edits = (("</cpu>", "<feature policy='disable' name='hypervisor'/></cpu>"),)
CGROUPS = "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,{}"
HARD_LIMIT: Edits = (
    (
        "  <memoryBacking>",
        "  <memtune><hard_limit unit='GiB'>8</hard_limit></memtune>\n  <memoryBacking>",
    ),
)
VIRTIOFS: Edits = (
    (
        "</devices>",
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv'/>"
        "<target dir='srv'/></filesystem></devices>",
    ),
)
NVME = (
    "<disk type='nvme' device='disk'><driver name='qemu' type='raw'/><source type='pci' "
    "managed='yes' namespace='1'><address domain='0x0000' bus='0x42' slot='0x00' "
    "function='0x0'/></source><target dev='vdz' bus='virtio'/></disk>"
)


def iommu(width: int, bits: int = 46) -> Change:
    """The graphics card's IOMMU is Intel's, with addresses of `width` bits, as the kernel shows its
    capabilities on a Core i7-13700K, and the processor has `bits`."""

    def change(root: Path) -> None:
        capabilities = 0xD2008C40660462 & ~(0x3F << 16) | width - 1 << 16
        write("sys/class/iommu/dmar1/intel-iommu/cap", f"{capabilities:x}")(root)
        unit = root / "sys/bus/pci/devices/0000:45:00.0/iommu"
        unit.symlink_to("../../../../class/iommu/dmar1")
        with (root / "proc/cpuinfo").open("a") as file:
            file.write(f"address sizes\t: {bits} bits physical, 48 bits virtual\n")

    return change


def _old_libvirt(root: Path) -> None:
    """libvirt 9.0, as Debian 12 has it, on a host whose IOMMU has few bits."""
    iommu(39)(root)
    write("usr/share/libvirt/schemas/cputypes.rng", '<attribute name="bits"/>')(root)


def _only(root: Path, cpus: str) -> None:
    """Make only these CPUs of the host online."""
    write("sys/devices/system/cpu/online", cpus)(root)


def _more_of_the_card(root: Path, resets: str = "bus") -> None:
    """A function in the card's slot that is not passed, in another IOMMU group."""
    add_pci(root, "0000:45:00.4", "xhci_hcd", "99", "0x0c0330")
    write("sys/bus/pci/devices/0000:45:00.0/reset_method", resets)(root)


def _vgpu(root: Path) -> None:
    """Functions that their own driver shows to VFIO."""
    for number in range(4):
        folder = root / f"sys/bus/pci/devices/0000:45:00.{number}"
        (folder / "driver").unlink()
        (folder / "driver").symlink_to("../../../../bus/pci/drivers/nvidia")
        (folder / "vfio-dev/vfio3").mkdir(parents=True)


def _apu(root: Path) -> None:
    """Graphics of AMD's processor: a USB controller of its slot has another maker's number."""
    add_pci(root, "0000:45:00.4", "xhci_hcd", "99", "0x0c0330", "1022:1639")


LONE: Edits = (("bus='0x07' slot='0x10' function='0x1'", "bus='0x43' slot='0x00' function='0x0'"),)


def _lone(root: Path, resets: str | None = None) -> None:
    """A graphics card of one function; the kernel tells how devices are reset."""
    add_pci(root, "0000:43:00.0", "vfio-pci", "43")
    write("sys/bus/pci/devices/0000:42:00.0/reset_method", "flr")(root)
    if resets:
        write("sys/bus/pci/devices/0000:43:00.0/reset_method", resets)(root)


def _vendor_reset(root: Path, resets: str = "bus") -> None:
    """The module is loaded."""
    (root / "sys/module/vendor_reset").mkdir(parents=True)
    write("sys/bus/pci/devices/0000:45:00.0/reset_method", resets)(root)


def _vendor_reset_asked(root: Path) -> None:
    """It should be loaded at boot, but does not exist."""
    (root / "sys/module/vfio").mkdir(parents=True)
    write("etc/modules-load.d/vendor-reset.conf", "vendor-reset")(root)


D3_LOG = """2026-11-29 20:00:00.123+0000: starting up libvirt version: 12.8.0, qemu version: 11.1.0
LC_ALL=C \\
/usr/bin/qemu-system-x86_64
2026-11-29T20:00:01.123456Z qemu-system-x86_64: vfio: Unable to power on device, stuck in D3"""
SMP: Edits = (
    (
        "</domain>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg "
        "value='-smp'/><qemu:arg value='sockets=1,cores=4,threads=2'/></qemu:commandline></domain>",
    ),
)
NO_SLEEP = "<qemu:arg value='ICH9-LPC.disable_s3=1'/>"
SHARED_OUT = "<cachetune vcpus='0-3'><cache id='0' level='3' type='both' size='3' unit='MiB'/>"


def attribute(name: str) -> Edits:
    """Without an attribute, wherever it is."""
    return ((re.search(rf" {name}='[^']*'", GOOD)[0], ""),)  # type: ignore[index]


def qemu_device(device: str) -> Edits:
    """With a -device in <qemu:commandline>."""
    space = "http://libvirt.org/schemas/domain/qemu/1.0"
    given = f'<qemu:arg value="-device"/><qemu:arg value="{device}"/>'
    more = f"<qemu:commandline xmlns:qemu='{space}'>{given}</qemu:commandline>"
    return (("</domain>", f"{more}</domain>"),)


def line(start: str, new: str = "") -> Edits:
    """Without the line, or with another."""
    return ((rf"/{start}[^\n]*/", new),)


def add(where: str, what: str) -> Edits:
    """With something more at the end of an element."""
    return ((f"</{where}>", f"{what}</{where}>"),)


def link(width: int, speed: float, port_width: int = 16) -> Change:
    """The card behind a root port, as sysfs nests them."""

    def change(root: Path) -> None:
        flat = root / "sys/bus/pci/devices/0000:45:00.0"
        nested = root / "sys/devices/pci0000:40/0000:40:01.3/0000:45:00.0"
        nested.parent.mkdir(parents=True)
        flat.rename(nested)
        flat.symlink_to(nested)
        port = root / "sys/bus/pci/devices/0000:40:01.3"
        port.symlink_to(nested.parent)
        for folder, now, best in (
            (nested, (width, speed), 16),
            (nested.parent, (width, speed), port_width),
        ):
            (folder / "current_link_width").write_text(f"{now[0]}\n")
            (folder / "current_link_speed").write_text(f"{now[1]} GT/s PCIe\n")
            (folder / "max_link_width").write_text(f"{best}\n")
            (folder / "max_link_speed").write_text("16.0 GT/s PCIe\n")

    return change


def other(*edits: tuple[str, str], starts: bool = False) -> Change:
    """Another VM next to the good one; with `starts` both start with the host."""

    def change(root: Path) -> None:
        xml = edited((("<name>good", "<name>other"), ("0c9a11<", "0c9a19<"), *edits))
        write("etc/libvirt/qemu/other.xml", xml)(root)
        for name in ("good", "other") if starts else ():
            write(f"etc/libvirt/qemu/autostart/{name}.xml", xml)(root)

    return change


def caches(size: str, *cpus: range) -> Change:
    """The level 3 caches of these CPUs have this size; those of the others have 8192K."""

    def change(root: Path) -> None:
        for cpu in (cpu for one in cpus for cpu in one):
            write(f"sys/devices/system/cpu/cpu{cpu}/cache/index3/size", size)(root)

    return change


def rom(file: int, folder: int = 0o755, owner: int = 0, group: int = 0) -> Change:
    """Permissions and owners of the ROM file and of its folder."""

    def change(root: Path) -> None:
        path = root / "usr/share/vgabios/card.rom"
        for one, mode in ((path, file), (path.parent, folder)):
            os.chown(one, owner, group)
            one.chmod(mode)

    return change


KVMFR: Edits = (
    (
        "</domain>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-object'/><qemu:arg value='memory-backend-file,id=a,"
        "mem-path=/dev/kvmfr0,size=32M,share=yes'/></qemu:commandline></domain>",
    ),
)


def confined(rule: str) -> Change:
    """AppArmor's rules for all guests, and a ROM file in /opt."""

    def change(root: Path) -> None:
        write("sys/module/apparmor/parameters/enabled", "Y")(root)
        write("etc/apparmor.d/abstractions/libvirt-qemu", f"  # ROMs\n  {rule}")(root)
        write("opt/card.rom", "")(root)

    return change


def hyperv(name: str) -> Edits:
    return ((rf"/<{name} state='on'[^\n]*/", ""),)


# Each: the rule, what is wrong in the domain, what is wrong on the host.
STIMER = (r"/<stimer(?s:.)*?</stimer>/", "")
DEFECTS: list[Defect] = [
    ("machine-hypervisor", (("type='kvm'", "type='xen'"),), None),
    ("machine-hypervisor", ((" type='kvm'", ""),), None),
    (
        "domain-unread",
        add(
            "devices",
            "<hostdev type='usb'><source><address/></source>"
            "</hostdev><shmem name='a'><size unit='X'>1</size></shmem>",
        ),
        None,
    ),
    ("machine-emulated", TCG, None),
    ("machine-q35", (("machine='q35'", "machine='pc-i440fx-9.0'"),), None),
    ("machine-q35", ((" machine='q35'", ""),), None),
    ("machine-bios", ((" firmware='efi'", ""),), None),
    (
        "machine-firmware-file",
        add("os", "<loader type='pflash'>/usr/share/OVMF/none.fd</loader>"),
        None,
    ),
    ("machine-ioapic", (*line("<ioapic"), ("machine='q35'", "machine='pc-q35-4.0'")), None),
    ("machine-tpm", TPM, None),
    ("argument-set", arguments("-set", "device.hostdev0.x-igd-opregion=on"), None),
    ("override-unused", overriding("hostdev9"), None),
    ("override-unused", overriding("ua-gpu"), None),
    (
        "qemu-elements-dropped",
        qemu("<qemu:override/>", "http://libvirt.org/schemas/qemu/1.1"),
        None,
    ),
    ("qemu-elements-dropped", (("<devices>", "<devices><commandline/>"),), None),
    ("cpu-override", OVERRIDE, None),
    ("cpu-hypervisor-off", NO_BIT, None),
    ("cpu-x2apic-off", add("cpu", "<feature policy='disable' name='x2apic'/>"), None),
    ("cpu-topology-product", (("cores='4'", "cores='3'"),), None),
    ("machine-sleep", line("<suspend-to-mem"), None),
    ("machine-sleep", (("disk enabled='no'", "disk enabled='yes'"),), None),
    ("cpu-mode", (("cpu mode='host-passthrough' check='none' migratable='off'", "cpu"),), None),
    (
        "cpu-mode",
        (("cpu mode='host-passthrough' check='none' migratable='off'", "cpu"), *KVMFR),
        iommu(39),
    ),
    (
        "cpu-mode",
        (("cpu mode='host-passthrough' check='none' migratable='off'", "cpu"), *KVMFR),
        _old_libvirt,
    ),
    ("cpu-migratable", (*LINUX, *attribute("migratable")), None),
    ("cpu-migratable", (*LINUX, ("migratable='off'", "migratable='on'")), None),
    ("cpu-cache", line("<cache"), None),
    ("cpu-topoext", line("<feature policy"), None),
    (
        "cpu-topoext",
        (("policy='require' name='topoext'", "policy='disable' name='topoext'"),),
        None,
    ),
    ("cpu-topology", line("<topology"), None),
    ("cpu-topology", (("cores='4' threads='2'", "cores='8' threads='1'"),), None),
    ("cpu-topology", (("cores='4' threads='2'", "cores='2' threads='4'"),), None),
    ("cpu-topology", (("sockets='1' dies='1' cores='4'", "sockets='4' cores='1'"),), None),
    (
        "cpu-topology",
        (*UNPINNED, ("sockets='1' dies='1' cores='4' threads='2'", "sockets='8' cores='1'")),
        None,
    ),
    ("pins-none", UNPINNED, None),
    ("pins-missing", line("<vcpupin vcpu='7'"), None),
    ("pins-wide", (("cpuset='8'", "cpuset='8,24'"),), None),
    ("pins-offline", (("cpuset='8'", "cpuset='64'"),), None),
    ("pins-offline", (("cpuset='12,28'", "cpuset='12,64'"),), None),
    ("pins-twice", (("cpuset='24'", "cpuset='8'"),), None),
    (
        "pins-siblings",
        (("cpuset='24'", "cpuset='9'"), ("vcpu='2' cpuset='9'", "vcpu='2' cpuset='24'")),
        None,
    ),
    ("pins-half-core", (("cpuset='24'", "cpuset='14'"),), None),
    ("pins-cpu-0", (("cpuset='8'", "cpuset='0'"), ("cpuset='24'", "cpuset='16'")), None),
    ("pins-all", (), lambda root: _only(root, "8-11,24-27")),
    (
        "pins-isolated",
        (("cpuset='8'", "cpuset='8-9'"),),
        write("sys/devices/system/cpu/isolated", "8-11,24-27"),
    ),
    ("pins-realtime", add("cputune", "<vcpusched vcpus='0' scheduler='rr' priority='1'/>"), None),
    ("pins-emulator", line("<emulatorpin"), None),
    ("pins-emulator", (("cpuset='12,28'", "cpuset='8'"),), None),
    ("pins-iothread", line("<iothreadpin"), None),
    ("pins-iothread", (("cpuset='13,29'", "cpuset='11-13'"),), None),
    ("node-pins", PINS_OF_TWO_NODES, None),
    ("node-pins", (*PINS_OF_TWO_NODES, *add("cpu", f"<numa>{CELL}</numa>")), None),
    ("node-memory", ((r"/<numatune>(?s:.)*?</numatune>/", ""),), None),
    ("node-memory", (("nodeset='1'", "nodeset='0'"),), None),
    ("node-memory", (("nodeset='1'", "nodeset='0-1'"),), None),
    ("node-device", (), write("sys/bus/pci/devices/0000:45:00.0/numa_node", "0")),
    (
        "node-cache",
        (
            ("<vcpupin vcpu='6' cpuset='11'/>", "<vcpupin vcpu='6' cpuset='14'/>"),
            ("<vcpupin vcpu='7' cpuset='27'/>", "<vcpupin vcpu='7' cpuset='30'/>"),
        ),
        None,
    ),
    ("node-cache", (), caches("24576K", range(12, 16), range(28, 32))),
    (
        "node-kinds",
        (),
        lambda root: [
            write("sys/devices/cpu_core/cpus", "0-10,16-26")(root),
            write("sys/devices/cpu_atom/cpus", "11-15,27-31")(root),
        ],
    ),
    ("device-by-argument", qemu_device("vfio-pci,host=0a:00.0,bus=rp1,x-vga=on"), None),
    ("device-by-argument", qemu_device("{'driver':'vfio-pci','host':'0000:0a:00.0'}"), None),
    (
        "input-unstable-name",
        add("devices", "<input type='evdev'><source dev='/dev/input/event4'/></input>"),
        None,
    ),
    (
        "input-unstable-name",
        qemu_device("input-linux,id=a,evdev=/dev/input/event12,repeat=on"),
        None,
    ),
    (
        "node-vcpus",
        (),
        lambda root: [
            write("sys/devices/cpu_core/cpus", "0,8-10,16,24-26")(root),
            write("sys/devices/cpu_atom/cpus", "1-7,11-15,17-23,27-31")(root),
        ],
    ),
    ("memory-host", (("unit='KiB'>8388608", "unit='GiB'>64"),), None),
    ("memory-balloon", (("memballoon model='none'", "memballoon model='virtio'"),), None),
    ("memory-balloon", line("<memballoon"), None),
    ("memory-current", (("currentMemory unit='KiB'>8388608", "currentMemory unit='GiB'>4"),), None),
    ("memory-page-size", (("size='2048'", "size='1048576'"),), None),
    ("memory-page-size", (("<memory unit='KiB'>8388608", "<memory unit='KiB'>8388609"),), None),
    (
        "memory-pool",
        (),
        write("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "4095"),
    ),
    ("memory-limit", HARD_LIMIT, None),
    ("memory-limit", (*HARD_LIMIT, *NO_DEVICES, (r"/<hugepages(?s:.)*</hugepages>/", "")), None),
    (
        "memory-limit",
        (*HARD_LIMIT, *NO_DEVICES),
        write("proc/self/mountinfo", CGROUPS.format("memory_hugetlb_accounting")),
    ),
    ("machine-arch", (("arch='x86_64'", "arch='aarch64'"),), None),
    ("machine-arch", (), write("proc/cpuinfo", "CPU implementer\t: 0x41")),
    (
        "machine-emulator",
        add("devices", "<emulator>/run/libvirt/nix-emulators/qemu-system-x86_64</emulator>"),
        lambda root: (root / "usr/bin").mkdir(),
    ),
    ("cputune-resctrl", add("cputune", f"{SHARED_OUT}</cachetune>"), None),
    ("cputune-resctrl", add("cputune", "<memorytune/>"), None),
    (
        "cputune-resctrl",
        add("cputune", "<energytune><monitor/></energytune>"),
        write("sys/fs/resctrl/info/last_cmd_status", "ok"),
    ),
    ("memory-shared", VIRTIOFS, None),
    (
        "memory-kvmfr",
        KVMFR,
        write("etc/libvirt/qemu.conf", '#cgroup_device_acl = ["/dev/kvmfr0"]'),
    ),
    ("cpu-address-width", KVMFR, iommu(39)),
    ("cpu-address-width", add("devices", "<shmem name='looking-glass'/>"), iommu(39)),
    (
        "cpu-address-width",
        (*KVMFR, ("</cpu>", "<maxphysaddr mode='emulate' bits='39'/></cpu>")),
        iommu(39),
    ),
    ("cpu-address-width", KVMFR, _old_libvirt),
    (
        "cpu-address-width",
        (*KVMFR, ("</cpu>", "<maxphysaddr mode='passthrough' limit='40'/></cpu>")),
        iommu(39),
    ),
    ("memory-locked", add("memoryBacking", "<locked/>"), None),
    (
        "pci-root-bus",
        ((ADDRESS, ADDRESS.replace("0x01", "0x00").replace("slot='0x00'", "slot='0x05'")),),
        None,
    ),
    ("pci-functions-apart", APART, None),
    ("pci-viommu-group", add("devices", "<iommu model='intel'/>"), None),
    (
        "pci-viommu-group",
        (
            ("  <features>", "  <iommufd enabled='yes'/>\n  <features>"),
            *add("devices", "<iommu model='intel'/>"),
        ),
        None,
    ),
    ("pci-viommu-caching", add("devices", "<iommu model='intel'/>"), None),
    (
        "pci-viommu-caching",
        add("devices", "<iommu model='intel'><driver intremap='on'/></iommu>"),
        None,
    ),
    (
        "pci-behind-bridge",
        (("index='1' model='pcie-root-port'", "index='1' model='pcie-to-pci-bridge'"),),
        None,
    ),
    ("pci-multifunction", ((" multifunction='on'", " multifunction='off'"),), None),
    ("pci-no-function-0", ((f"{ADDRESS}'0x0'", f"{ADDRESS}'0x2'"),), None),
    ("device-absent", (("bus='0x07' slot='0x10'", "bus='0x07' slot='0x11'"),), None),
    (
        "device-not-managed",
        (("managed='yes'", "managed='no'"),),
        lambda root: (root / "sys/bus/pci/devices/0000:45:00.1/driver").unlink(),
    ),
    ("device-rom-file", (("card.rom", "none.rom"),), None),
    ("device-rom-file", (), rom(0o600)),
    ("device-rom-file", (), rom(0o644, folder=0o700)),
    ("device-rom-owner", (), rom(0o640, group=64055)),
    ("device-rom-owner", (), rom(0o644, folder=0o750, owner=1000)),
    (
        "device-rom-apparmor",
        (("file='/usr/share/vgabios/", "file='/opt/"),),
        confined("/usr/share/vgabios/** r,"),
    ),
    ("device-rom-bar", (("<rom file", "<rom bar='off' file"),), None),
    (
        "device-no-group",
        (),
        lambda root: (root / "sys/bus/pci/devices/0000:45:00.0/iommu_group").unlink(),
    ),
    (
        "device-mdev-absent",
        add(
            "devices",
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
            "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>",
        ),
        None,
    ),
    ("iommufd-missing", (("  <features>", "  <iommufd enabled='yes'/>\n  <features>"),), None),
    (
        "disk-nvme-apparmor",
        add("devices", NVME),
        write("sys/module/apparmor/parameters/enabled", "Y"),
    ),
    (
        "device-function-left",
        (),
        _more_of_the_card,
    ),
    ("device-no-reset", (), _apu),
    ("device-no-reset", LONE, _lone),
    ("device-vendor-reset", (), _vendor_reset),
    ("device-vendor-reset", (), _vendor_reset_asked),
    ("device-d3cold", (), write("var/log/libvirt/qemu/good.log", D3_LOG)),
    ("device-line-interrupt", (), write("proc/interrupts", INTERRUPTS)),
    ("device-kvm-hidden", (*LINUX, *add("features", "<kvm><hidden state='on'/></kvm>")), None),
    ("link-width", (), link(8, 16.0)),
    ("link-speed", (), link(16, 2.5)),
    ("link-slot", (), link(4, 16.0, port_width=4)),
    *(
        ("hyperv-off", hyperv(name), None)
        for name in "relaxed vapic spinlocks tlbflush ipi".split()
    ),
    ("hyperv-off", (("relaxed state='on'", "relaxed state='off'"),), None),
    ("hyperv-off", ((r"/<hyperv(?s:.)*?</hyperv>/", ""),), None),
    ("hyperv-off", ((r"/<stimer(?s:.)*?</stimer>/", ""),), None),
    ("hyperv-stimer-direct", line("<direct"), None),
    ("hyperv-avic", (), write("sys/module/kvm_intel/parameters/enable_apicv", "Y")),
    ("hyperv-avic", (), write("sys/module/kvm_amd/parameters/avic", "1")),
    ("hyperv-passthrough", (("hyperv mode='custom'", "hyperv mode='passthrough'"),), None),
    ("hyperv-evmcs-on-amd", add("hyperv", "<evmcs state='on'/>"), None),
    (
        "hyperv-evmcs",
        add("cpu", "<feature policy='require' name='vmx'/>"),
        write("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx"),
    ),
    ("clock-hpet", line("<timer name='hpet'"), None),
    ("clock-hpet", (("'hpet' present='no'", "'hpet' present='yes'"),), None),
    ("clock-hyperv", (*line("<timer name='hypervclock'"), STIMER), None),
    ("hyperv-requirements", line("<timer name='hypervclock'"), None),
    ("hyperv-requirements", hyperv("vpindex"), None),
    ("hyperv-requirements", hyperv("synic"), None),
    ("clock-offset", (("localtime", "utc"),), None),
    ("clock-ticks", (*NO_BIT, *line("<timer name='rtc'")), None),
    ("clock-ticks", (*NO_BIT, *attribute("tickpolicy")), None),
    ("disk-bus", (("bus='virtio'", "bus='sata'"),), None),
    ("disk-iothread", (*NO_THREAD, *attribute("iothread")), None),
    ("disk-iothread", (*NO_THREAD, *SCSI), None),
    ("disk-cache", (("cache='none' io='native'", ""),), None),
    ("disk-io-cache", (("cache='none'", "cache='writeback'"),), None),
    ("disk-io-cache", attribute("cache"), None),
    ("disk-cache-unsafe", (("cache='none' io='native'", "cache='unsafe'"),), None),
    ("disk-unstable-name", (("dev='/dev/vg/games'", "dev='/dev/sda'"),), None),
    ("disk-unstable-name", (("dev='/dev/vg/games'", "dev='/dev/nvme0n1p2'"),), None),
    ("iothreads-unused", attribute("iothread"), None),
    ("iothreads-unused", (*attribute("iothread"), ("bus='virtio'", "bus='sata'")), None),
    ("disk-discard", attribute("discard"), None),
    ("nic-model", (("model type='virtio'", "model type='e1000e'"),), None),
    (
        "disk-iothread-shared",
        (
            *add(
                "devices",
                GOOD[GOOD.index("<disk") : GOOD.index("</disk>") + 7].replace("vda", "vdb"),
            ),
            ("<iothreads>1<", "<iothreads>2<"),
        ),
        None,
    ),
    ("extra-tablet", add("devices", "<input type='tablet' bus='usb'/>"), None),
    ("extra-video", add("devices", "<video><model type='qxl'/></video>"), None),
    ("console-without-spice", add("devices", "<channel type='spicevmc'/>"), None),
    ("console-without-spice", add("devices", "<audio id='1' type='spice'/>"), None),
    ("vm-shares", (), other(*NO_DEVICES)),
    ("vm-shares", (), other(starts=True)),
]

# Where a rule does not apply, though what it looks for is there.
SILENT: list[tuple[str, Edits, Change | None, frozenset[str]]] = [
    ("machine-emulated", TCG, lambda root: (root / "proc/misc").unlink(), frozenset()),
    (
        "machine-q35",
        (*NO_DEVICES, ("machine='q35'", "machine='pc'")),
        None,
        frozenset(),
    ),
    ("machine-bios", (*NO_DEVICES, (" firmware='efi'", "")), None, frozenset()),
    ("machine-ioapic", line("<ioapic"), None, frozenset()),
    (
        "machine-tpm",
        (*TPM, ("microsoft.com/win/11", "microsoft.com/win/10")),
        None,
        frozenset(),
    ),
    ("cpu-override", (("</domain>", "<!-- -cpu host --></domain>"),), None, frozenset()),
    *(
        ("argument-set", arguments(*words), None, frozenset[str]())
        for words in (
            ("-set", "drive.disk0.cache=none"),
            ("-device", "vfio-pci,id=mine", "-set", "device.mine.x-vga=on"),
        )
    ),
    ("override-unused", overriding("hostdev0"), None, frozenset()),
    ("override-unused", overriding("video0"), None, frozenset()),
    ("qemu-elements-dropped", overriding("hostdev0"), None, frozenset()),
    (
        "qemu-elements-dropped",
        (("<metadata>", "<metadata><my:override xmlns:my='http://example.org/tool'/>"),),
        None,
        frozenset(),
    ),
    # Where Windows does not see <hyperv>, that is all there is to say.
    *(
        (name, (*edits, *more), None, frozenset[str]())
        for edits in (OVERRIDE, NO_BIT)
        for name, more in (
            ("hyperv-off", hyperv("vapic")),
            ("hyperv-stimer-direct", line("<direct")),
            ("clock-hyperv", line("<timer name='hypervclock'")),
        )
    ),
    ("cpu-topoext", (*OVERRIDE, *line("<feature policy")), None, frozenset()),
    ("cpu-cache", (*OVERRIDE, *line("<cache")), None, frozenset()),
    ("hyperv-off", MACOS, None, frozenset()),
    ("hyperv-off", (*hyperv("runtime"), *hyperv("frequencies")), None, frozenset()),
    (
        "extra-video",
        add(
            "devices",
            "<video><model type='vga'/></video><shmem name='looking-glass'>"
            "<size unit='M'>64</size></shmem>",
        ),
        None,
        frozenset(),
    ),
    (
        "hyperv-passthrough",
        (*NO_BIT, ("hyperv mode='custom'", "hyperv mode='passthrough'")),
        None,
        frozenset(),
    ),
    ("clock-hpet", (*MACOS, *line("<timer name='hpet'")), None, frozenset()),
    ("clock-hpet", (*NO_BIT, *line("<timer name='hpet'")), None, frozenset()),
    ("disk-bus", (*MACOS, ("bus='virtio'", "bus='sata'")), None, frozenset()),
    (
        "cpu-topoext",
        (*line("<feature policy"), ("mode='host-passthrough'", "mode='host-model'")),
        None,
        frozenset(),
    ),
    ("cpu-migratable", attribute("migratable"), None, frozenset()),
    # Only where the guest's cores have what the host's have.
    ("pins-siblings", (("cores='4' threads='2'", "cores='2' threads='4'"),), None, frozenset()),
    # vCPUs that are off need no pin.
    (
        "pins-missing",
        (*line("<vcpupin vcpu='7'"), ("'static'>8<", "'static' current='7'>8<")),
        None,
        frozenset(),
    ),
    ("pins-iothread", (*attribute("iothread"), *line("<iothreadpin")), None, frozenset()),
    (
        "device-function-left",
        (),
        lambda root: _more_of_the_card(root, "flr bus"),
        frozenset(),
    ),
    (
        "device-function-left",
        (),
        _apu,
        frozenset(),
    ),
    ("device-no-reset", LONE, lambda root: _lone(root, "bus"), frozenset()),
    ("device-no-reset", (), _lone, frozenset()),
    ("device-vendor-reset", (), lambda root: _vendor_reset(root, "device_specific"), frozenset()),
    ("device-vendor-reset", (), lambda root: _vendor_reset(root, "flr bus"), frozenset()),
    ("memory-limit", (*HARD_LIMIT, *NO_DEVICES), None, frozenset()),
    (
        "memory-limit",
        (*HARD_LIMIT, *NO_DEVICES),
        write("proc/self/mountinfo", CGROUPS.format("memory_recursiveprot")),
        frozenset(),
    ),
    ("machine-arch", (*TCG, ("arch='x86_64'", "arch='aarch64'")), None, frozenset()),
    (
        "cputune-resctrl",
        add("cputune", f"{SHARED_OUT}</cachetune>"),
        write("sys/fs/resctrl/info/last_cmd_status", "ok"),
        frozenset(),
    ),
    ("cpu-topology", (*SMP, *line("<topology")), None, frozenset()),
    ("clock-ticks", (*OVERRIDE, *line("<timer name='rtc'")), None, frozenset()),
    (
        "machine-sleep",
        (
            *line("<suspend-to-mem"),
            *((a, b.replace("<qemu:arg", f"{NO_SLEEP}<qemu:arg", 1)) for a, b in SMP),
        ),
        None,
        frozenset(),
    ),
    (
        "extra-video",
        add("devices", "<video><model type='qxl'/></video>"),
        write("sys/bus/pci/devices/0000:45:00.0/class", "0x030200"),
        frozenset(),
    ),
    (
        "cpu-topology",
        (
            (">8</vcpu>", " current='8'>9</vcpu>"),
            ("cores='4' threads='2'", "cores='9' threads='1'"),
        ),
        None,
        frozenset(),
    ),
    (
        "cpu-topology",
        (("microsoft.com/win/11", "microsoft.com/win/2k22"), *UNPINNED, *line("<topology")),
        None,
        frozenset(),
    ),
    (
        "pins-realtime",
        add("cputune", "<vcpusched vcpus='0-7' scheduler='fifo' priority='1'/>"),
        write("sys/devices/system/cpu/isolated", "8-11,24-27"),
        frozenset(),
    ),
    (
        "memory-locked",
        (
            *add("memoryBacking", "<locked/>"),
            *add("domain", "<launchSecurity type='sev'><policy>3</policy></launchSecurity>"),
        ),
        None,
        frozenset(),
    ),
    (
        "hyperv-off",
        (
            ("<libosinfo:os id=", "<libosinfo:other id="),
            (r"/<hyperv(?s:.)*?</hyperv>/", ""),
            (
                "</devices>",
                "<disk type='file' device='disk'><source file='/vm/OpenCore.qcow2'/>"
                "<target dev='sdq' bus='sata'/></disk></devices>",
            ),
        ),
        None,
        frozenset(),
    ),
    ("machine-sleep", (*NO_DEVICES, *line("<suspend-to-mem")), None, frozenset()),
    (
        "extra-video",
        add("devices", "<video><model type='virtio'/></video>"),
        lambda root: (root / "sys/bus/pci/devices/0000:45:00.0/physfn").symlink_to(
            "../0000:42:00.0"
        ),
        frozenset(),
    ),
    (
        "clock-ticks",
        (
            (r"/<hyperv(?s:.)*?</hyperv>/", "<hyperv mode='passthrough'/>\n"),
            *line("<timer name='rtc'"),
            *line("<timer name='hypervclock'"),
        ),
        None,
        frozenset(),
    ),
    *(
        (name, (*XP, *edits), None, frozenset[str]())
        for name, edits in (
            ("hyperv-off", ((r"/<hyperv(?s:.)*?</hyperv>/", ""),)),
            ("clock-hyperv", (*line("<timer name='hypervclock'"), STIMER)),
            ("clock-hpet", line("<timer name='hpet'")),
            ("machine-q35", (("machine='q35'", "machine='pc'"),)),
            ("machine-bios", (("<os firmware='efi'>", "<os>"),)),
            ("cpu-mode", (("mode='host-passthrough'", "mode='custom'"),)),
        )
    ),
    ("cpu-mode", (*TCG, ("mode='host-passthrough'", "mode='host-model'")), None, frozenset()),
    (
        "cpu-topoext",
        line("<feature policy"),
        write("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu"),
        frozenset(),
    ),
    (
        "cpu-topoext",
        (*line("<feature policy"), ("threads='2'", "threads='1'")),
        None,
        frozenset(),
    ),
    ("pins-none", (*NO_DEVICES, *UNPINNED), None, frozenset()),
    ("pins-emulator", UNPINNED, None, frozenset()),
    ("pins-cpu-0", (), lambda root: add_cpus(root, nodes=1), frozenset()),
    (
        "node-pins",
        (*PINS_OF_TWO_NODES, *add("cpu", f"<numa>{CELL}{CELL.replace('0', '1')}</numa>")),
        None,
        frozenset(),
    ),
    ("node-memory", UNPINNED, None, frozenset()),
    (
        "node-device",
        UNPINNED,
        write("sys/bus/pci/devices/0000:45:00.0/numa_node", "0"),
        frozenset(),
    ),
    ("node-device", (), write("sys/bus/pci/devices/0000:45:00.0/numa_node", "-1"), frozenset()),
    ("device-by-argument", qemu_device("ivshmem-plain,memdev=vfio-pci"), None, frozenset()),
    (
        "input-unstable-name",
        add("devices", "<input type='evdev'><source dev='/dev/input/by-id/usb-kbd'/></input>"),
        None,
        frozenset(),
    ),
    (
        "disk-discard",
        attribute("discard"),
        write("sys/class/block/games/queue/discard_max_bytes", "0"),
        frozenset(),
    ),
    # Not much larger; of another node; with the host's first core in it.
    ("node-cache", (), caches("12000K", range(12, 16), range(28, 32)), frozenset()),
    ("node-cache", (), caches("24576K", range(4, 8), range(20, 24)), frozenset()),
    (
        "node-cache",
        (),
        lambda root: [
            add_cpus(root, nodes=1, cores=16),
            caches("24576K", range(4), range(16, 20))(root),
        ],
        frozenset(),
    ),
    ("memory-balloon", (*NO_DEVICES, *line("<memballoon")), None, frozenset()),
    (
        "memory-pool",
        (),
        write("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "0"),
        frozenset({"hugepages"}),
    ),
    ("pci-root-bus", ((ADDRESS, "type='none' function="),), None, frozenset()),
    (
        "device-not-managed",
        (("managed='yes'", "managed='no'"),),
        lambda root: (root / "sys/bus/pci/devices/0000:45:00.1/driver").unlink(),
        frozenset({"pci"}),
    ),
    ("device-not-managed", (("managed='yes'", "managed='no'"),), None, frozenset()),
    ("link-width", (), link(16, 2.5), frozenset()),
    ("nic-model", line("<model type='virtio'"), None, frozenset()),
    (
        "pci-root-bus",
        (
            ("bus='0x45'", "bus='0x00'"),
            (ADDRESS, ADDRESS.replace("0x01", "0x00").replace("slot='0x00'", "slot='0x05'")),
        ),
        None,
        frozenset(),
    ),
    # The ports of a network card, and parts of the chipset.
    (
        "pci-functions-apart",
        APART,
        write("sys/bus/pci/devices/0000:45:00.0/class", "0x020000"),
        frozenset(),
    ),
    (
        "pci-functions-apart",
        (*APART, ("bus='0x45'", "bus='0x00'")),
        write("sys/bus/pci/devices/0000:00:00.0/class", "0x030000"),
        frozenset(),
    ),
    ("link-slot", (), link(16, 16.0), frozenset()),
    *(
        ("hyperv-off", (*LINUX, *hyperv(name)), None, frozenset[str]())
        for name in ("relaxed", "vapic", "ipi")
    ),
    *(
        (
            "hyperv-off",
            (("mode='custom'", f"mode='{mode}'"), *hyperv("ipi")),
            None,
            frozenset[str](),
        )
        for mode in ("passthrough", "host-model")
    ),
    ("clock-hpet", (*LINUX, *line("<timer name='hpet'")), None, frozenset()),
    ("clock-hyperv", (*LINUX, *line("<timer name='hypervclock'")), None, frozenset()),
    ("clock-offset", (*LINUX, ("localtime", "utc")), None, frozenset()),
    ("clock-ticks", line("<timer name='rtc'"), None, frozenset()),
    ("disk-iothread", (*NO_DEVICES, *NO_THREAD, *attribute("iothread")), None, frozenset()),
    ("disk-iothread", (*NO_THREAD, *SCSI, ("virtio-scsi'/>", "lsilogic'/>")), None, frozenset()),
    # An idle thread is reported together with the disk that could use it.
    ("disk-iothread", attribute("iothread"), None, frozenset()),
    # So are a card behind a bridge, or on the root bus, and its functions elsewhere.
    (
        "pci-functions-apart",
        (
            *APART,
            ("index='1' model='pcie-root-port'", "index='1' model='pcie-to-pci-bridge'"),
        ),
        None,
        frozenset(),
    ),
    (
        "pci-functions-apart",
        (
            *APART,
            (
                f"{ADDRESS}'0x0'",
                ADDRESS.replace("0x01", "0x00").replace("t='0x00'", "t='0x05'") + "'0x0'",
            ),
        ),
        None,
        frozenset(),
    ),
    # NVIDIA's driver keeps the VFs that are its vGPUs.
    (
        "device-not-managed",
        (("managed='yes'", "managed='no'"),),
        _vgpu,
        frozenset(),
    ),
    (
        "disk-iothread",
        (*SCSI, ("virtio-scsi'/>", "virtio-scsi'><driver iothread='1'/></controller>")),
        None,
        frozenset(),
    ),
    ("device-rom-apparmor", (), confined("/usr/share/{seabios,vgabios}/*.rom rk,"), frozenset()),
    (
        "device-rom-apparmor",
        (("file='/usr/share/vgabios/", "file='/opt/"),),
        lambda root: [
            confined("/usr/share/vgabios/** r,")(root),
            write("etc/apparmor.d/local/abstractions/libvirt-qemu", "  /opt/card.rom r,")(root),
        ],
        frozenset(),
    ),
    (
        "device-rom-apparmor",
        (("file='/usr/share/vgabios/", "file='/opt/"),),
        lambda root: [
            confined("/usr/share/vgabios/** r,")(root),
            write("etc/libvirt/qemu.conf", 'security_driver = "none"')(root),
        ],
        frozenset(),
    ),
    (
        "device-rom-apparmor",
        (("file='/usr/share/vgabios/", "file='/opt/"),),
        lambda root: [
            confined("/usr/share/vgabios/** r,")(root),
            write("etc/apparmor.d/disable/usr.sbin.libvirtd", "")(root),
        ],
        frozenset(),
    ),
    (
        "device-rom-apparmor",
        (
            ("file='/usr/share/vgabios/", "file='/opt/"),
            ("</domain>", "<seclabel type='none' model='apparmor'/></domain>"),
        ),
        confined("/usr/share/vgabios/** r,"),
        frozenset(),
    ),
    (
        "device-rom-apparmor",
        (("file='/usr/share/vgabios/card", "file='/opt/my card"),),
        lambda root: [
            confined('"/opt/my card.rom" r,')(root),
            write("opt/my card.rom", "")(root),
        ],
        frozenset(),
    ),
    (
        "pci-behind-bridge",
        (
            ("index='1' model='pcie-root-port'", "index='1' model='pcie-to-pci-bridge'"),
            *add("devices", "<iommu model='intel'/>"),
        ),
        None,
        frozenset(),
    ),
    ("pci-viommu-caching", add("devices", "<iommu model='virtio'/>"), None, frozenset()),
    (
        "pci-viommu-caching",
        add("devices", "<iommu model='intel'><driver caching_mode='on'/></iommu>"),
        None,
        frozenset(),
    ),
    ("cpu-address-width", (), iommu(39), frozenset()),
    ("cpu-address-width", (*KVMFR, (" firmware='efi'", "")), iommu(39), frozenset()),
    ("cpu-address-width", KVMFR, iommu(46), frozenset()),
    (
        "cpu-address-width",
        (
            *KVMFR,
            ("</qemu:commandline>", "<qemu:arg value='-global'/></qemu:commandline>"),
            (
                "</qemu:commandline>",
                "<qemu:arg value='host-x86_64-cpu.host-phys-bits-limit=39'/></qemu:commandline>",
            ),
        ),
        iommu(39),
        frozenset(),
    ),
    # edk2 uses no more than 47.
    ("cpu-address-width", KVMFR, iommu(48, bits=52), frozenset()),
    (
        "cpu-address-width",
        (*KVMFR, ("</cpu>", "<maxphysaddr mode='passthrough' limit='39'/></cpu>")),
        iommu(39),
        frozenset(),
    ),
    # On Debian only root can read it, so for anybody else nothing is known.
    ("memory-kvmfr", KVMFR, write("etc/libvirt/qemu.conf/a", ""), frozenset()),
    # It is right if it belongs to QEMU's own user, who is not known for sure; root may read all.
    ("device-rom-file", (), rom(0o660, owner=64055, group=64055), frozenset()),
    ("device-rom-owner", (), rom(0o600), frozenset()),
    (
        "device-rom-file",
        (),
        lambda root: [rom(0o600)(root), write("etc/libvirt/qemu.conf", 'user = "root"')(root)],
        frozenset(),
    ),
    (
        "cpu-topology",
        (("sockets='1' dies='1' cores='4'", "sockets='2' cores='2'"),),
        None,
        frozenset(),
    ),
    (
        "cpu-topology",
        (*LINUX, *UNPINNED, ("sockets='1' dies='1' cores='4'", "sockets='4' cores='1'")),
        None,
        frozenset(),
    ),
    ("hyperv-avic", (), write("sys/module/kvm_amd/parameters/avic", "N"), frozenset()),
    (
        "hyperv-avic",
        hyperv("synic"),
        write("sys/module/kvm_amd/parameters/avic", "Y"),
        frozenset(),
    ),
    ("extra-video", add("devices", "<video><model type='none'/></video>"), None, frozenset()),
    # They cannot run at once, or have nothing in common, or one is pinned to all CPUs.
    ("vm-shares", (), other(), frozenset()),
    ("vm-shares", (), other(*NO_DEVICES, *UNPINNED), frozenset()),
    (
        "vm-shares",
        (),
        other(*NO_DEVICES, *UNPINNED, ("placement='static'", "cpuset='0-31'")),
        frozenset(),
    ),
    (
        "pins-emulator",
        (*line("<emulatorpin"), ("placement='static'", "cpuset='12,28'")),
        None,
        frozenset(),
    ),
]
