"""The ROM files that devices are given: there, readable by QEMU, and seen by the guest."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import closed, shows_files
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import apparmor, pci_functions, qemu_conf
from vfio_hooks.domain.editing import Edit
from vfio_hooks.domain.files import LOCAL_PROFILE, QEMU_CONF
from vfio_hooks.plural import verb
from vfio_hooks.quoting import quoted

_SOURCE = "host-device-assignment"
_UNCONFINED = ("none", "static")
_MODELS = (None, "apparmor")
"""Those of a <seclabel> with which a guest has no profile of libvirt's: none, or the user's own."""


@guest_rule(
    "device-rom-file",
    "error",
    why="QEMU does not start if it cannot read the ROM file that it has to show to the guest.",
    source=_SOURCE,
)
def rom(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for path, addresses in _files(patient, guest).items():
        of = f"the ROM file of {' and '.join(addresses)}, {path},"
        try:
            found = closed(patient.host, path)
        except (FileNotFoundError, NotADirectoryError):
            yield Seen(f"{of} does not exist", f"put it there, or remove <rom file='{path}'/>")
            continue
        if found and found.is_roots and not _is_root(patient):
            where = "" if found.path == path else f", because only root can open {found.path}"
            yield Seen(
                f"{of} can only be read by root{where}; QEMU does not run as root",
                f"chmod o+r {path}"
                if found.path == path
                else "put it where everybody can read it, such as /usr/share/vgabios, and change "
                "<rom file=…/>",
            )


@guest_rule(
    "device-rom-owner",
    "hint",
    why="QEMU runs as the user and group in qemu.conf, and does not start if it cannot read the "
    "ROM file that it has to show to the guest.",
    source=_SOURCE,
    sure="possible",
)
def rom_owner(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for path, addresses in _files(patient, guest).items():
        try:
            found = closed(patient.host, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found and not found.is_roots and not _is_root(patient):
            yield Seen(
                f"not everybody can read {found.path}, and the ROM file of "
                f"{' and '.join(addresses)} is {path}",
                f"unless its owner or group is QEMU's (user= and group= in {QEMU_CONF}): "
                f"chmod o+{'r' if found.path == path else 'x'} {found.path}",
            )


@guest_rule(
    "device-rom-apparmor",
    "error",
    why="libvirt's AppArmor profile of the guest does not name ROM files. QEMU may read them only "
    "where the rules for all guests allow it; elsewhere it 'failed to find romfile'.",
    source="libvirt's virt-aa-helper.c and abstraction libvirt-qemu; tried with libvirt 11.3",
    sure="likely",
)
def confined(patient: Patient, guest: Guest) -> Iterator[Seen]:
    labels = guest.xml.iterfind("seclabel")
    own = any(one.get("type") in _UNCONFINED and one.get("model") in _MODELS for one in labels)
    rules = None if own else apparmor.rules(patient.host)
    for path, addresses in _files(patient, guest).items():
        if rules is not None and not apparmor.allow(rules, path, "r"):
            line = f"  {apparmor.rule(path, 'r')}"
            yield Seen(
                f"AppArmor keeps QEMU from the ROM file of {' and '.join(addresses)}, {path}",
                f"put it into /usr/share/vgabios, and change <rom file=…/>; or: "
                f"echo {quoted(line)} >> {LOCAL_PROFILE}",
            )


@guest_rule(
    "device-rom-bar",
    "warning",
    why="Without a ROM BAR the guest's firmware finds no ROM on the card. QEMU hands the file to "
    "a BIOS in another way, but not to UEFI.",
    source="QEMU's hw/pci/pci.c, pci_add_option_rom",
)
def bar(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        function.address
        for element, function in pci_functions(guest.xml)
        if (part := element.find("rom")) is not None
        and part.get("bar") == "off"
        and part.get("file")
    ]
    if found:
        yield Seen(
            f"{' and '.join(found)} {verb(len(found), 'has', 'have')} a ROM file, but "
            f"bar='off' hides it from the guest",
            "or remove the file, if the card starts without it",
            tuple(Edit(f"devices/hostdev({one})/rom", {"bar": "on"}) for one in found),
            by_hand=True,
        )


def _files(patient: Patient, guest: Guest) -> dict[str, list[str]]:
    """The ROM files, where files can be seen, and which devices have them."""
    found: dict[str, list[str]] = {}
    for element, function in pci_functions(guest.xml):
        part = element.find("rom")
        path = part.get("file") if part is not None else None
        if path and shows_files(patient.host):
            found.setdefault(path, []).append(function.address)
    return found


def _is_root(patient: Patient) -> bool:
    return (qemu_conf.text(patient.host, "user") or "").lstrip("+") in ("root", "0")


RULES = (rom, rom_owner, confined, bar)
