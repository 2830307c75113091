"""What AppArmor lets the QEMU of every VM do: the rules that libvirt's profile of each VM includes.

apparmor.d(5). To these libvirt adds what it finds in the VM's XML, by virt-aa-helper.
"""

import re

from vfio_hooks.domain import qemu_conf
from vfio_hooks.domain.files import LOCAL_PROFILE, PROFILE
from vfio_hooks.host import Host

_RULE = re.compile(
    r"\s*(?:audit\s+)?(?:allow\s+|(?P<deny>deny)\s+)?(?:owner\s+)?(?:file\s+)?"
    r'(?:(?P<first>[rwaxmlkiuUpPcC]+)\s+)?("(?P<quoted>[/{][^"]*)"|(?P<path>[/{](?:\S*[^\s,])?))'
    r"(?:\s+(?P<modes>\w+))?\s*,"
)
"""The ways of use may stand before the path as well: rw /dev/kvmfr0,"""
_PARTS = re.compile(r"\*\*|\[\^?(?:\w(?:-\w)?)+\]|.", re.DOTALL)
_DISABLED = "/etc/apparmor.d/disable"
_DAEMONS = {"usr.sbin.libvirtd", "usr.sbin.virtqemud"}
_VARIABLES = {"@{sys}": "/sys", "@{HOME}": "{/home/*,/root}"}
"""Those in paths that matter here, with their values in tunables/global."""
_GLOBS = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}


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
    for name, value in _VARIABLES.items():
        text = text.replace(name, value)
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def allow(lines: list[str], path: str, modes: str) -> bool:
    """Whether these rules let QEMU use a file in all of these ways: "r" to read, "rw" to write as
    well. A rule that denies takes precedence over all that allow."""
    allowed: set[str] = set()
    denied: set[str] = set()
    for found in filter(None, map(_RULE.match, lines)):
        if _matches(found["quoted"] or found["path"], path):
            used = found["first"] or found["modes"] or ""
            (denied if found["deny"] else allowed).update(used)
    return {*modes} <= allowed - denied


def rule(path: str, modes: str) -> str:
    """The line that lets QEMU use a file in these ways."""
    return f'"{path}" {modes},' if re.search(r"\s", path) else f"{path} {modes},"


def _matches(glob: str, path: str) -> bool:
    try:
        return re.fullmatch(_pattern(glob), path, re.DOTALL) is not None
    except re.error:
        # Such as [9-0] or a lone "{", which AppArmor refuses as well.
        return False


def _pattern(glob: str) -> str:
    """AppArmor's pattern of a path, as a regular expression: "**" is any path, "*" a part of a
    name, "[0-9]" one of these characters, "{a,b}" either, which may have others inside."""
    found, depth = "", 0
    for part in _PARTS.findall(glob):
        depth += (part == "{") - (part == "}")
        is_class = part.startswith("[") and len(part) > 1
        is_or = part == "," and depth
        found += part if is_class else "|" if is_or else _GLOBS.get(part) or re.escape(part)
    return found
