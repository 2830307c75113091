"""What kind of processor a host has, from /proc/cpuinfo.

https://docs.kernel.org/filesystems/proc.html
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

AMD, INTEL = "AuthenticAMD", "GenuineIntel"


def vendor(host: Host) -> str:
    """The maker as the processor names it, such as "AuthenticAMD"; "" if it names none."""
    return _line(host, "vendor_id")


def address_bits(host: Host) -> int | None:
    """How many bits a physical address has; None if it is not known."""
    found = re.match(r"(\d+) bits physical", _line(host, "address sizes"))
    return int(found[1]) if found else None


def flags(host: Host) -> frozenset[str]:
    """The features of the first CPU, by the kernel's names."""
    return frozenset(_line(host, "flags").split())


def architectures(host: Host) -> tuple[str, ...]:
    """The architectures that KVM can run on it, by libvirt's names, the host's own first; empty if
    it is not known. x86 and s390 have a "vendor_id", and ARM a "CPU implementer"."""
    if vendor(host) and "IBM" not in vendor(host):
        return "x86_64", "i686"
    return ("aarch64", "armv7l") if _line(host, "CPU implementer") else ()


def _line(host: Host, key: str) -> str:
    found = re.search(rf"^{key}\s*:\s*(.*)$", host.maybe("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else ""
