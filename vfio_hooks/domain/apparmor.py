"""What AppArmor lets the QEMU of every VM do: the rules that libvirt's profile of each VM includes.

apparmor.d(5). To these libvirt adds what it finds in the VM's XML, by virt-aa-helper.
"""

import re

from vfio_hooks.domain import qemu_conf
from vfio_hooks.domain.files import LOCAL_PROFILE, PROFILE
from vfio_hooks.host import Host

_RULE = re.compile(r'\s*(?:owner\s+)?("/[^"]*"|/[^"\s]*)\s+(\w+),')
_DISABLED = "/etc/apparmor.d/disable"
_DAEMONS = {"usr.sbin.libvirtd", "usr.sbin.virtqemud"}
_GLOBS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def rules(host: Host) -> list[str] | None:
    """The lines of these rules; None where AppArmor is off, or libvirt does not use it for VMs."""
    profile = host.maybe(PROFILE)
    if profile is None or host.maybe("/sys/module/apparmor/parameters/enabled") != "Y":
        return None
    if qemu_conf.text(host, "security_driver") not in (None, "apparmor"):
        return None
    # A daemon that is not confined itself cannot confine its VMs.
    if _DAEMONS.intersection(host.names(_DISABLED)):
        return None
    more = (f"{PROFILE}.d/{name}" for name in host.names(f"{PROFILE}.d"))
    text = "\n".join([profile, *(host.maybe(path) or "" for path in (LOCAL_PROFILE, *more))])
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def may_read(lines: list[str], path: str) -> bool:
    """Whether one of these rules lets QEMU read a file."""
    found = filter(None, map(_RULE.match, lines))
    return any("r" in one[2] and _pattern(one[1].strip('"')).fullmatch(path) for one in found)


def rule(path: str) -> str:
    """The line that lets QEMU read a file."""
    return f'  "{path}" r,' if re.search(r"\s", path) else f"  {path} r,"


def _pattern(glob: str) -> re.Pattern[str]:
    """AppArmor's pattern of a path: "**" is any path, "*" a part of a name, "{a,b}" either."""
    parts = re.split(r"(\*\*|[*?]|\{[^{}]*\})", glob)
    return re.compile("".join(map(_part, parts)), re.DOTALL)


def _part(part: str) -> str:
    if part.startswith("{"):
        return f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
    return _GLOBS.get(part) or re.escape(part)
