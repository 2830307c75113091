"""Which network interface carries what: default routes and ssh connections, from procfs.

https://docs.kernel.org/networking/proc_net_tcp.html; routes are in /proc/net/route and
/proc/net/ipv6_route, with all numbers in hex.
"""

from __future__ import annotations

import re

from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

_SSH = 22
_SSHD = "/etc/ssh/sshd_config"
_PORT = re.compile(r"^\s*Port[\s=]+(\d+)", re.MULTILINE | re.IGNORECASE)
_ESTABLISHED = "01"


@record
class Route:
    """A route of the main table: its network, how many bits of that count, and its interface."""

    version: int
    network: int
    length: int
    interface: str

    @property
    def is_automatic(self) -> bool:
        """Whether IPv6 makes it by itself, of fe80::/10 and ff00::/8."""
        first = self.network >> 118
        return self.version == 6 and (first == 0x3FA or first >> 2 == 0xFF)

    def covers(self, address: int) -> bool:
        shift = (32 if self.version == 4 else 128) - self.length
        return address >> shift == self.network >> shift


def losses(host: Host, interface: str) -> Iterator[str]:
    """What this host would lose with an interface, as clauses."""
    above = _with_uppers(host, interface)
    routes = list(_routes(host))
    for route in routes:
        if route.length == 0 and route.interface in above:
            yield f"the IPv{route.version} default route goes through {route.interface}"
    for version, address in _ssh_peers(host):
        fitting = [route for route in routes if route.version == version and route.covers(address)]
        best = max(fitting, key=lambda route: route.length, default=None)
        if best and best.interface in above:
            yield f"an ssh connection comes in through {best.interface}"
            return


def is_vf_pool(host: Host, network: str) -> bool:
    """Whether a libvirt network gives its VMs VFs of a card; also true if libvirt's files may not
    be read."""
    for folder in ("/run/libvirt/network", "/etc/libvirt/qemu/networks"):
        if (text := host.maybe(f"{folder}/{network}.xml")) is not None:
            return re.search(r"<forward\b[^>]*\bmode='hostdev'", text) is not None
    return True


def uses(host: Host, interface: str) -> Iterator[str]:
    """What an interface is used for, as clauses: a bridge or bond above it, and routes other than
    those that every interface has while it is up (link-local, multicast)."""
    if master := host.link(f"/sys/class/net/{interface}/master"):
        yield f"{interface} is part of {master}"
    above = _with_uppers(host, interface)
    for route in _routes(host):
        if route.interface in above and not route.is_automatic:
            yield f"{route.interface} has an IPv{route.version} route"
            return


def _with_uppers(host: Host, interface: str) -> list[str]:
    """An interface and all interfaces whose traffic it carries: bridges and bonds that it is part
    of, VLANs and macvlans on it, and whatever is on top of these."""
    found = [interface]
    for lower in found:  # The list grows meanwhile.
        names = host.names(f"/sys/class/net/{lower}")
        uppers = (name.removeprefix("upper_") for name in names if name.startswith("upper_"))
        found += [upper for upper in uppers if upper not in found]
    return found


def _routes(host: Host) -> Iterator[Route]:
    for line in host.lines("/proc/net/route")[1:]:
        fields = line.split()
        mask = _little(fields[7])
        yield Route(4, _little(fields[1]), mask.bit_count(), fields[0])
    for line in host.lines("/proc/net/ipv6_route"):
        fields = line.split()
        # lo has the kernel's own default, "unreachable".
        if fields[9] != "lo":
            yield Route(6, int(fields[0], 16), int(fields[1], 16), fields[9])


def _ssh_peers(host: Host) -> Iterator[tuple[int, int]]:
    """IP version and address of each peer that is connected to a port of this host's sshd."""
    ports = _ssh_ports(host)
    for version, file in ((4, "/proc/net/tcp"), (6, "/proc/net/tcp6")):
        for line in host.lines(file)[1:]:
            _, local, remote, state = line.split()[:4]
            if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) in ports:
                yield _peer(version, remote.rpartition(":")[0])


def _ssh_ports(host: Host) -> set[int]:
    """The usual port, and those in sshd_config(5), including its files below .d/."""
    names = [f"{_SSHD}.d/{name}" for name in host.names(f"{_SSHD}.d") if name.endswith(".conf")]
    texts = [host.maybe(name) or "" for name in (_SSHD, *names)]
    return {_SSH, *(int(port) for text in texts for port in _PORT.findall(text))}


def _peer(version: int, text: str) -> tuple[int, int]:
    if version == 4:
        return 4, _little(text)
    words = [text[start : start + 8] for start in range(0, 32, 8)]
    address = 0
    for word in words:
        address = address << 32 | _little(word)
    # An IPv4 peer of a socket that listens on both shows as ::ffff:a.b.c.d.
    return (4, address & 0xFFFFFFFF) if address >> 32 == 0xFFFF else (6, address)


def _little(word: str) -> int:
    """A 32-bit word that procfs printed in the CPU's byte order, which is little-endian on every
    machine with VFIO."""
    return int.from_bytes(bytes.fromhex(word), "little")
