"""What libvirt's QEMU driver is told by qemu.conf.

Of a key that is set twice libvirt takes the first, and the quotes may be single ones (tried with
libvirt 11.3).
"""

from __future__ import annotations

import re

from vfio_hooks.domain.files import QEMU_CONF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_TEXT = r"""["']([^"']+)["']"""


def text(host: Host, key: str) -> str | None:
    """The value of a key that is a text, such as user; None where it is not set."""
    found = _first(host, key, _TEXT)
    return found[1] if found else None


def allowed(host: Host) -> list[str] | None:
    """The devices of cgroup_device_acl; None where it is not set, and libvirt's own list counts."""
    found = _first(host, "cgroup_device_acl", r"\[(.*?)\]")
    return re.findall(_TEXT, found[1]) if found else None


def _first(host: Host, key: str, value: str) -> re.Match[str] | None:
    lines = (line for line in host.lines(QEMU_CONF) if not line.lstrip().startswith("#"))
    return re.search(rf"^\s*{key}\s*=\s*{value}", "\n".join(lines), re.MULTILINE | re.DOTALL)
