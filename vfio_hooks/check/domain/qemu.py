"""What this host's own QEMU and libvirt make of the domain."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.kind import machine
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.commands import run
from vfio_hooks.errors import HookError

if TYPE_CHECKING:
    from lxml.etree import RelaxNG, _Element

_SOURCE = "https://www.qemu.org/docs/master/about/deprecated.html; QEMU's own -machine help"
_SECONDS = 20.0
_VALIDATOR = "/usr/bin/virt-xml-validate"
_SCHEMA = "/usr/share/libvirt/schemas/domain.rng"


@guest_rule(
    "machine-emulator",
    "error",
    why="Before libvirt defines or starts a domain, it asks the emulator what it can do. It "
    "refuses a domain whose emulator it cannot run.",
    source="https://libvirt.org/formatdomain.html#devices",
)
def emulator(patient: Patient, guest: Guest) -> Iterator[Seen]:
    path = (guest.xml.findtext("devices/emulator") or "").strip()
    # A captured host has no programs.
    has_programs = patient.host.exists("/usr/bin")
    if path.startswith("/") and has_programs and not patient.host.exists(path):
        yield Seen(
            f"the emulator {path} is not on this host",
            "remove <emulator>, so that libvirt uses its own; virsh domcapabilities shows which",
        )


@guest_rule(
    "machine-type-gone",
    "error",
    why="libvirt neither defines nor starts a domain whose machine type its QEMU does not have. "
    "QEMU removes machine types that are more than six years old.",
    source=_SOURCE,
)
def gone(patient: Patient, guest: Guest) -> Iterator[Seen]:
    name, types = machine(guest), _types(patient, guest)
    if name and types and name not in types:
        yield Seen(f"this host's QEMU has no machine type {name}", f"machine='{_newest(name)}'")


@guest_rule(
    "machine-type-old",
    "hint",
    why="One of the next versions of QEMU will remove this machine type. With another machine "
    "type, Windows detects most of its devices again, once.",
    source=_SOURCE,
)
def old(patient: Patient, guest: Guest) -> Iterator[Seen]:
    name = machine(guest)
    if "(deprecated)" in _types(patient, guest).get(name, ""):
        yield Seen(
            f"the machine type {name} is deprecated by this host's QEMU",
            f"machine='{_newest(name)}'; libvirt replaces that by the newest version",
        )


def _newest(name: str) -> str:
    return "q35" if "q35" in name else "pc" if "i440fx" in name else name.rpartition("-")[0]


def _types(patient: Patient, guest: Guest) -> dict[str, str]:
    """The machine types of the domain's QEMU, with what QEMU says about each; empty if QEMU cannot
    be asked."""
    emulator = (guest.xml.findtext("devices/emulator") or "").strip()
    if not emulator.startswith("/") or not patient.host.is_this_machine:
        return {}
    if not patient.host.exists(emulator):
        return {}
    try:
        lines = run([emulator, "-machine", "help"], _SECONDS).splitlines()
    except HookError:
        return {}
    return {line.split()[0]: line for line in lines[1:] if line.strip()}


@guest_rule(
    "xml-unknown",
    "hint",
    why="libvirt refuses what it does not know, or silently drops it when it writes the domain "
    "again.",
    source="virt-xml-validate(1), by the schema of this host's libvirt",
    sure="likely",
)
def unknown(patient: Patient, guest: Guest) -> Iterator[Seen]:
    host = patient.host
    if not host.exists(_VALIDATOR) or not host.exists(_SCHEMA):
        return
    from lxml import etree

    schema = etree.RelaxNG(etree.parse(host.path(_SCHEMA)))
    if not schema.validate(guest.xml):
        paths = _culprits(schema, guest.xml) or ["<domain>"]
        yield Seen(
            f"the schema of this host's libvirt does not know what is in {', '.join(paths)}",
            "virt-xml-validate FILE",
        )


_REQUIRED = ("name", "memory", "os")


def _culprits(schema: "RelaxNG", root: "_Element") -> list[str]:
    """The places that the schema refuses: "<features><acpy>". Each part of the domain is tried
    alone, in a domain that has only what is required."""
    from copy import deepcopy

    base, found = deepcopy(root), list[str]()
    for child in list(base):
        if child.tag not in _REQUIRED:
            base.remove(child)
    for child in root:
        if child.tag in _REQUIRED:
            continue
        base.append(deepcopy(child))
        if not schema.validate(base):
            found += _inside(schema, base, base[-1])
        base.remove(base[-1])
    return list(dict.fromkeys(found))


def _inside(schema: "RelaxNG", base: "_Element", place: "_Element") -> list[str]:
    """The same within one element, which is named itself if none of its parts is to blame."""
    parts = [one for one in place if isinstance(one.tag, str)]
    own = f"<{place.tag}>"
    for at, part in enumerate(list(place)):
        place.remove(part)
        is_cured = schema.validate(base)
        place.insert(at, part)
        if is_cured:
            return [own + one for one in _inside(schema, base, part)]
    for part in parts:
        place.remove(part)
    if not schema.validate(base):
        return [own]
    found = list[str]()
    for part in parts:
        place.append(part)
        if not schema.validate(base):
            found += [own + one for one in _inside(schema, base, part)]
            place.remove(part)
    return found or [own]


RULES = (emulator, gone, old, unknown)
