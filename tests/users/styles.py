"""A domain for each kind of user, with what a careful one would have, and the host that it is on.

A base has no fault but those that `left` names. Addresses of the guest are as libvirt gives them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hosttree import add_pci
from tests.shapes import SHAPES
from vfio_hooks.record import replace

_NAMES = "relaxed vapic spinlocks vpindex runtime synic stimer frequencies tlbflush ipi"


@dataclass(frozen=True)
class Style:
    """`host` makes the host below a folder; `left` are findings that this kind of user means."""

    xml: str
    host: Callable[[Path], object]
    left: frozenset[str] = frozenset()


def lights(names: str = _NAMES) -> str:
    """<hyperv> with these enlightenments."""
    more = {"spinlocks": " retries='8191'", "vendor_id": " value='none'"}
    lines = [f"<{name} state='on'{more.get(name, '')}/>" for name in names.split()]
    text = "".join(f"      {line}\n" for line in lines)
    direct = "<stimer state='on'><direct state='on'/></stimer>"
    return f"    <hyperv mode='custom'>\n{text}    </hyperv>\n".replace(
        "<stimer state='on'/>", direct
    )


def pins(cpus: str, emulator: str, more: str = "") -> str:
    """<cputune> with a CPU for each vCPU."""
    each = "".join(
        f"    <vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>\n" for vcpu, cpu in enumerate(cpus.split())
    )
    return f"  <cputune>\n{each}    <emulatorpin cpuset='{emulator}'/>\n{more}  </cputune>\n"


def hostdev(address: str, guest: str, more: str = "") -> str:
    """A passed function; `guest` is "bus.function"."""
    bus, function = guest.split(".")
    multi = " multifunction='on'" if function == "0" and more != "alone" else ""
    host_bus, slot, host_function = address[:2], address[3:5], address[6]
    return f"""\
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source>
        <address domain='0x0000' bus='0x{host_bus}' slot='0x{slot}' function='0x{host_function}'/>
      </source>
      <address type='pci' domain='0x0000' bus='0x{bus}' slot='0x00' function='0x{function}'{multi}/>
    </hostdev>
"""


SPICE = """\
    <graphics type='spice' autoport='yes'><listen type='address'/></graphics>
    <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
    <audio id='1' type='spice'/>
    <sound model='ich9'/>
    <video><model type='none'/></video>
"""
EVDEV = """\
    <input type='evdev'><source dev='/dev/input/by-id/usb-kbd' grab='all' repeat='on'/></input>
    <input type='evdev'><source dev='/dev/input/by-id/usb-mouse'/></input>
    <audio id='1' type='none'/>
"""
CLOCK = """\
  <clock offset='localtime'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
    <timer name='hypervclock' present='yes'/>
  </clock>
"""
DISK = """\
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native' discard='unmap' iothread='1'/>
      <source dev='/dev/disk/by-id/nvme-Samsung_SSD_980'/>
      <target dev='vda' bus='virtio'/>
    </disk>
"""
TPM = "    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>\n"
NIC = """\
    <interface type='network'>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
"""
CPU = """\
  <cpu mode='host-passthrough' check='none' migratable='off'>
    <topology sockets='1' dies='1' cores='{}' threads='{}'/>
    <cache mode='passthrough'/>
{}  </cpu>
"""
TOPOEXT = "    <feature policy='require' name='topoext'/>\n"
PM = "  <pm>\n    <suspend-to-mem enabled='no'/>\n    <suspend-to-disk enabled='no'/>\n  </pm>\n"
ARGUMENTS = "  <qemu:commandline>\n{}  </qemu:commandline>\n"
_CARD = hostdev("0b:00.0", "05.0") + hostdev("0b:00.1", "05.1")


@dataclass(frozen=True)
class Parts:
    """What a domain is put together from."""

    os: str = "http://microsoft.com/win/11"
    memory: str = "  <memory unit='GiB'>8</memory>\n  <currentMemory unit='GiB'>8</currentMemory>\n"
    backing: str = ""
    vcpus: int = 12
    iothreads: str = "  <iothreads>1</iothreads>\n"
    pins: str = pins(
        "8 24 9 25 10 26 11 27 12 28 13 29",
        "14,30",
        "    <iothreadpin iothread='1' cpuset='15,31'/>\n",
    )
    boot: str = "  <os firmware='efi'><type arch='x86_64' machine='pc-q35-9.2'>hvm</type></os>\n"
    hyperv: str = lights()
    features: str = ""
    cpu: str = CPU.format(6, 2, TOPOEXT)
    clock: str = CLOCK
    disks: str = DISK
    devices: str = TPM
    nic: str = NIC
    passed: str = _CARD
    console: str = SPICE
    balloon: str = "    <memballoon model='none'/>\n"
    arguments: str = ""

    def __str__(self) -> str:
        port = "    <controller type='pci' index='{0}' model='pcie-root-port'/>\n"
        ports = "".join(port.format(number) for number in range(1, 9))
        return f"""\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>win11</name>
  <uuid>0f3c7b52-6a7e-4a55-9d9c-2f6b1f0c9a11</uuid>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="{self.os}"/>
    </libosinfo:libosinfo>
  </metadata>
{self.memory}{self.backing}  <vcpu placement='static'>{self.vcpus}</vcpu>
{self.iothreads}{self.pins}{self.boot}  <features>
    <acpi/>
{self.hyperv}{self.features}    <vmport state='off'/>
  </features>
{self.cpu}{self.clock}{PM}  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{self.disks}    <controller type='pci' index='0' model='pcie-root'/>
{ports}{self.nic}{self.devices}{self.passed}{self.console}{self.balloon}  </devices>
{self.arguments}</domain>
"""


def base(root: Path, shape: str, maker: str, *cards: str) -> Path:
    SHAPES[shape].write(root)
    files = {
        "proc/cpuinfo": f"vendor_id\t: {maker}\nflags\t\t: fpu topoext svm vmx",
        "proc/misc": "232 kvm\n 10 vfio",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    for card in cards:
        ids = "1002:73bf" if maker == "AuthenticAMD" else "10de:2684"
        add_pci(root, f"0000:{card}.0", "vfio-pci", _group(card), "0x030000", ids)
        add_pci(root, f"0000:{card}.1", "vfio-pci", _group(card), "0x040300", ids)
    return root


def _group(card: str) -> str:
    """The number of its IOMMU group."""
    return str(int(card[:2], 16))


def ryzen(root: Path) -> Path:
    return base(root, "ryzen", "AuthenticAMD", "0b:00")


def x3d(root: Path) -> Path:
    """The first die has the large cache."""
    base(root, "ryzen", "AuthenticAMD", "0b:00")
    for cpu in (*range(8), *range(16, 24)):
        (root / f"sys/devices/system/cpu/cpu{cpu}/cache/index3/size").write_text("98304K\n")
    return root


def laptop(root: Path) -> Path:
    return base(root, "laptop", "GenuineIntel", "01:00")


def hybrid(root: Path) -> Path:
    return base(root, "hybrid", "GenuineIntel", "01:00")


def epyc(root: Path) -> Path:
    """The card is at node 1."""
    base(root, "epyc", "AuthenticAMD", "41:00")
    for function in (0, 1):
        (root / f"sys/bus/pci/devices/0000:41:00.{function}/numa_node").write_text("1\n")
    return root


def two_cards(root: Path) -> Path:
    ryzen(root)
    add_pci(root, "0000:05:00.0", "amdgpu", "5", "0x030000", "1002:164e")
    return root


_SMALL = hostdev("01:00.0", "05.0") + hostdev("01:00.1", "05.1")
_INTEL = Parts(passed=_SMALL)
_THREAD = "    <iothreadpin iothread='1' cpuset='{}'/>\n"
_KVMFR = (
    "{'qom-type':'memory-backend-file','id':'looking-glass','mem-path':'/dev/kvmfr0',"
    "'size':33554432,'share':true}"
)
_KVMFR_ARGUMENTS = ARGUMENTS.format(
    "    <qemu:arg value='-device'/>\n"
    '    <qemu:arg value=\'{"driver":"ivshmem-plain","id":"shmem0","memdev":'
    '"looking-glass"}\'/>\n'
    "    <qemu:arg value='-object'/>\n"
    f'    <qemu:arg value="{_KVMFR}"/>\n'
)
_PENRYN = "Penryn,kvm=on,vendor=GenuineIntel,+invtsc,vmware-cpuid-freq=on,+ssse3,+sse4.2"
_MAC_ARGUMENTS = ARGUMENTS.format(
    "    <qemu:arg value='-device'/>\n"
    "    <qemu:arg value='isa-applesmc,osk=ourhardworkbythesewordsguardedplease'/>\n"
    "    <qemu:arg value='-smbios'/>\n    <qemu:arg value='type=2'/>\n"
    f"    <qemu:arg value='-cpu'/>\n    <qemu:arg value='{_PENRYN}'/>\n"
)
_MAC = Parts(
    os="http://apple.com/macos/13",
    vcpus=8,
    iothreads="",
    pins=pins("8 24 9 25 10 26 11 27", "14,30"),
    hyperv="",
    cpu="",
    clock="  <clock offset='utc'/>\n",
    disks=DISK.replace(" iothread='1'", "").replace("'vda' bus='virtio'", "'sda' bus='sata'"),
    nic=NIC.replace("virtio", "vmxnet3"),
    devices="",
    console=EVDEV,
    arguments=_MAC_ARGUMENTS,
)
_HEAVY = ARGUMENTS.format(
    "    <qemu:arg value='-cpu'/>\n    <qemu:arg value='host,topoext=on,kvm=off,hv_relaxed,"
    "hv_vapic,hv_time,hv_spinlocks=0x1fff,hv_vpindex,hv_synic,hv_stimer,-hypervisor'/>\n"
)
_VIRT_MANAGER = Parts(
    vcpus=4,
    iothreads="",
    pins="",
    hyperv=lights("relaxed vapic spinlocks"),
    cpu="  <cpu mode='host-passthrough' check='none' migratable='on'/>\n",
    disks="""\
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='/var/lib/libvirt/images/win11.qcow2'/>
      <target dev='sda' bus='sata'/>
    </disk>
""",
    nic=NIC.replace("virtio", "e1000e"),
    passed=hostdev("0b:00.0", "05.0", "alone") + hostdev("0b:00.1", "06.0", "alone"),
    console=SPICE.replace("none", "qxl") + "    <input type='tablet' bus='usb'/>\n",
    balloon="    <memballoon model='virtio'/>\n",
)
_LINUX = Parts(
    os="http://fedoraproject.org/fedora/42",
    hyperv="",
    clock="  <clock offset='utc'>\n    <timer name='hpet' present='no'/>\n  </clock>\n",
    devices="",
)
_UNRAID = Parts(
    os="http://microsoft.com/win/10",
    devices="",
    iothreads="",
    pins=pins("4 20 5 21 6 22 7 23", "0,16"),
    vcpus=8,
    cpu=CPU.format(4, 2, TOPOEXT),
    disks="""\
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
      <source file='/mnt/user/domains/Windows 10/vdisk1.img'/>
      <target dev='hdc' bus='virtio'/>
    </disk>
""",
)
_SHMEM = """\
    <shmem name='looking-glass'>
      <model type='ivshmem-plain'/>
      <size unit='M'>64</size>
    </shmem>
"""

STYLES: dict[str, Style] = {
    "single GPU": Style(str(Parts()), ryzen),
    "two cards": Style(str(Parts()), two_cards),
    "laptop": Style(
        str(
            replace(
                _INTEL,
                vcpus=4,
                memory=Parts.memory.replace("8<", "6<"),
                pins=pins("4 5 6 7", "2-3", _THREAD.format("2-3")),
                cpu=CPU.format(2, 2, ""),
            )
        ),
        laptop,
    ),
    "X3D": Style(
        str(
            replace(
                Parts(),
                vcpus=14,
                pins=pins("1 17 2 18 3 19 4 20 5 21 6 22 7 23", "8,24", _THREAD.format("9,25")),
                cpu=CPU.format(7, 2, TOPOEXT),
            )
        ),
        x3d,
    ),
    "hybrid": Style(
        str(
            replace(
                _INTEL,
                vcpus=10,
                pins=pins("2 3 4 5 6 7 8 9 10 11", "12-13", _THREAD.format("14-15")),
                cpu=CPU.format(5, 2, ""),
            )
        ),
        hybrid,
    ),
    "EPYC": Style(
        str(
            replace(
                Parts(),
                vcpus=8,
                pins=pins("20 148 21 149 22 150 23 151", "24,152", _THREAD.format("25,153"))
                + "  <numatune>\n    <memory mode='strict' nodeset='1'/>\n  </numatune>\n",
                cpu=CPU.format(4, 2, TOPOEXT),
                passed=hostdev("41:00.0", "05.0") + hostdev("41:00.1", "05.1"),
            )
        ),
        epyc,
    ),
    "macOS": Style(str(_MAC), ryzen),
    "Linux guest": Style(str(_LINUX), ryzen),
    "evdev": Style(str(replace(Parts(), console=EVDEV)), ryzen),
    "Looking Glass, shmem": Style(str(replace(Parts(), balloon=Parts.balloon + _SHMEM)), ryzen),
    "Looking Glass, kvmfr": Style(str(replace(Parts(), arguments=_KVMFR_ARGUMENTS)), ryzen),
    "Unraid": Style(str(_UNRAID), ryzen, frozenset({"disk-iothread"})),
    "virt-manager": Style(
        str(_VIRT_MANAGER),
        ryzen,
        frozenset(
            "cpu-topology pins-none hyperv-off disk-bus disk-cache nic-model pci-functions-apart "
            "extra-tablet extra-video memory-balloon cpu-cache".split()
        ),
    ),
    "command line": Style(
        str(replace(Parts(), arguments=_HEAVY)), ryzen, frozenset({"cpu-override"})
    ),
}
