"""What a domain uses from the host apart from PCI functions, read from its XML."""

from __future__ import annotations

from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vfio_hooks.domain.tree import Element

KVMFR = "/dev/kvmfr"
_MOST_THREADS = 65535  # QEMU has 16 bits for the number of a vCPU at most
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
"""The namespace of <qemu:commandline> and the like, as it stands before a tag."""


@record
class UsbDevice:
    """A host USB device that the domain is given: by vendor and product, "046d:c52b", by bus and
    device number, by bus and port ("1-4.2"), or by several of these. If it is `optional`, it may be
    absent."""

    ids: str | None
    address: tuple[int, int] | None
    optional: bool = False
    path: str | None = None

    def __str__(self) -> str:
        number = f"bus {self.address[0]} device {self.address[1]}" if self.address else ""
        return " ".join(filter(None, (self.ids, number, self.path)))


@record
class SharedMemory:
    """Memory that guest and host share through a file or device node of the host; `size` is in
    bytes. If it comes from `arguments` for QEMU, libvirt does not know it, and allows it in no
    security profile."""

    path: str
    size: int
    arguments: bool = False


@record
class MemoryDevice:
    """Memory of the host that the guest has in slots of its NUMA node `cell`, in KiB, as much as it
    starts with. `page` is the size of its pages, and `nodes` are nodes of the host, None for those
    of the cell."""

    size: int
    cell: int
    page: int | None = None
    nodes: CpuSet | None = None


def usb_devices(root: Element) -> Iterator[UsbDevice]:
    for source in root.iterfind("devices/hostdev[@type='usb']/source"):
        yield usb_device(source)


def usb_device(source: Element) -> UsbDevice:
    """The device that the <source> of a USB <hostdev> names."""
    vendor, product, address = map(source.find, ("vendor", "product", "address"))
    ids = [number(part.get("id", "0")) for part in (vendor, product) if part is not None]
    bus = 0 if address is None else number(address.get("bus", "0"))
    # Since libvirt 12 a port may stand for the device's number.
    device, port = (None if address is None else address.get(name) for name in ("device", "port"))
    return UsbDevice(
        ids="{:04x}:{:04x}".format(*ids) if len(ids) == 2 else None,
        address=None if device is None else (bus, number(device)),
        optional=source.get("startupPolicy") in ("optional", "requisite"),
        path=None if port is None else f"{bus}-{port}",
    )


def shared_memories(root: Element) -> Iterator[SharedMemory]:
    """The memory of <shmem> elements without a server, and of QEMU arguments that libvirt passes
    on."""
    for device in root.iterfind("devices/shmem"):
        if device.find("server") is None:
            size = device.find("size")
            # https://libvirt.org/formatdomain.html#shared-memory-device: 4 MiB unless said.
            total = 4 << 20
            if size is not None:
                total = _bytes(size.text or "0", size.get("unit", "b"), "<size>")
            yield SharedMemory(f"/dev/shm/{device.get('name', '')}", total)
    for argument in root.iterfind(f"{QEMU}commandline/{QEMU}arg"):
        value = argument.get("value", "")
        # All other files are the user's own business.
        words = _object(value) if "memory-backend-file" in value else {}
        path = words.get("mem-path", "")
        if words.get("kind") == "memory-backend-file" and path.startswith(("/dev/shm/", KVMFR)):
            yield SharedMemory(path, _size(words.get("size", "")), arguments=True)


def memory_devices(root: Element) -> Iterator[MemoryDevice]:
    """DIMMs, and the requested part of virtio-mem. NVDIMMs and the like are not memory of the host
    but files. https://libvirt.org/formatdomain.html#memory-devices"""
    for tag, model in (("size", "dimm"), ("requested", "virtio-mem")):
        for device in root.iterfind(f"devices/memory[@model='{model}']"):
            nodes = device.findtext("source/nodemask")
            yield MemoryDevice(
                size=kibibytes(device.find(f"target/{tag}")),
                cell=int(device.findtext("target/node") or 0),
                page=kibibytes(device.find("source/pagesize")) or None,
                nodes=None if nodes is None else parse_list(nodes),
            )


def _object(text: str) -> dict[str, str]:
    """The value of QEMU's -object, in either of its notations, with its type as "kind"."""
    if text.lstrip().startswith("{"):
        pairs = qemu_json(text).items()
        return {("kind" if key == "qom-type" else key): str(value) for key, value in pairs}
    kind, *rest = text.split(",")
    return {"kind": kind} | dict(word.partition("=")[::2] for word in rest)


_STRING = r"""'((?:[^'\\]|\\.)*)'|"(?:[^"\\]|\\.)*\""""
_REQUOTED = {"\\'": "'", '"': '\\"'}


def qemu_json(text: str) -> dict[str, Any]:
    """An object in QEMU's JSON, which also has strings in single quotes: qobject/json-lexer.c in
    its sources. Raises ValueError."""
    import json
    import re

    def double_quoted(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        inside = re.sub(r"\\.|\"", lambda one: _REQUOTED.get(one[0], one[0]), found[1])
        return f'"{inside}"'

    try:
        found = json.loads(re.sub(_STRING, double_quoted, text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the QEMU argument {text} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the QEMU argument {text} is not a JSON object")
    return found


def _size(text: str) -> int:
    """A number with a unit, "64M", in bytes; 0 if the text is no such number."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return _bytes(digits, text[len(digits) :] or "b", text) if digits.isdecimal() else 0


def iothread_ids(root: Element) -> list[int]:
    """The numbers of a domain's I/O threads: the named ones, and the rest counted from 1.

    Raises ValueError for text that is not a number.
    """
    named = [int(one.get("id", "")) for one in root.iterfind("iothreadids/iothread")]
    total = max(count(root, "iothreads", 0), len(named))
    free = (number for number in range(1, total + 1) if number not in named)
    return sorted([*named, *list(free)[: total - len(named)]])


def count(root: Element, tag: str, default: int) -> int:
    """How many threads of a kind a domain has. Raises ValueError for an impossible number."""
    found = int(root.findtext(tag) or default)
    if not 0 <= found <= _MOST_THREADS:
        raise ValueError(f"<{tag}> is {found}")
    return found


def working_iothreads(root: Element) -> frozenset[int]:
    """The I/O threads to which a disk or a controller is assigned."""
    found = [one.get("iothread") for one in root.iterfind("devices//driver")]
    found += [one.get("id") for one in root.iterfind("devices//driver/iothreads/iothread")]
    return frozenset(int(text) for text in found if text and text.isascii() and text.isdecimal())


def idle_vcpus(root: Element, most: int) -> CpuSet:
    """The vCPUs that are off when the domain starts: <vcpu current=>, <vcpus><vcpu enabled=>.
    https://libvirt.org/formatdomain.html#cpu-allocation"""
    single = list(root.iterfind("vcpus/vcpu"))
    if single:
        off = (one.get("id", "0") for one in single if one.get("enabled") == "no")
        return frozenset(map(int, off))
    vcpu = root.find("vcpu")
    current = int(vcpu.get("current") or most) if vcpu is not None else most
    return frozenset(range(current, most))


def number(text: str) -> int:
    """A number as C's strtol reads it with base 0: 0x hex, 0 octal, else decimal."""
    octal = text.startswith("0") and text.isdecimal()
    return int(text, 8 if octal else 0)


def _bytes(number: str, unit: str, what: str) -> int:
    """An amount in bytes, from one of libvirt's units,
    https://libvirt.org/formatdomain.html#memory-allocation, or QEMU's, which are single letters.
    Raises ValueError for another unit."""
    prefix, end = unit[:1].lower(), unit[1:].lower()
    if unit.lower() in ("b", "byte", "bytes"):
        return int(number)
    if not prefix or prefix not in _PREFIXES or end not in ("", "ib", "b"):
        raise ValueError(f"unit {unit!r} of {what} is not known")
    total: int = int(number) * (1000 if end == "b" else 1024) ** (1 + _PREFIXES.index(prefix))
    return total


_PREFIXES = "kmgtpe"


def kibibytes(element: Element | None, amount: str | None = None) -> int:
    """What an element such as <memory unit="MiB"> says, in KiB, which is also its default unit."""
    if element is None:
        return 0
    total = _bytes(amount or element.text or "0", element.get("unit", "KiB"), f"<{element.tag}>")
    return -(-total // 1024)
