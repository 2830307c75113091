"""VFIO's modules, and whether they are loaded before a driver that would take a card.

https://docs.kernel.org/driver-api/vfio.html, modprobe.d(5)
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, boot, pci, softdep
from vfio_hooks.host.modules import is_known, is_loaded, of_driver

_LISTS = ("/etc/mkinitcpio.conf", "/etc/modules", "/etc/initramfs-tools/modules")
_LIST_FOLDERS = ("/etc/mkinitcpio.conf.d", "/etc/modules-load.d", "/etc/dracut.conf.d")
# mkinitcpio takes no module along because of a softdep in modprobe.d.
REBUILD = (
    "then rebuild the initramfs (update-initramfs -u, dracut -f, or mkinitcpio -P with vfio_pci "
    "first in MODULES=) and reboot"
)


@rule(
    "vfio-missing",
    "host",
    "error",
    why="Without vfio-pci no PCI device can be given to a VM.",
    source="https://docs.kernel.org/driver-api/vfio.html",
)
def missing(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if not is_loaded(host, "vfio-pci") and not is_known(host, "vfio-pci"):
        yield Seen(
            "the running kernel has no module vfio-pci",
            "install the modules of this kernel, or boot one with CONFIG_VFIO_PCI; after an "
            "upgrade of the kernel: reboot",
        )


@rule(
    "vfio-too-late",
    "host",
    "warning",
    why="vfio-pci is configured to take this device when it is loaded, but another driver was "
    "faster. Taking a graphics card from its driver later may hang or crash the desktop.",
    source="modprobe.d(5), softdep; guide: Boot and Kernel Parameters",
)
def too_late(patient: Patient) -> Iterator[Seen]:
    for ids, place in _ids(patient.host):
        for function in _with_ids(patient.host, ids):
            # A card with VFs is not meant: its VFs have the same IDs, and would be lost with it.
            vfs = patient.host.maybe(f"{pci.DEVICES}/{function.address}/sriov_numvfs") or "0"
            if function.driver and not pci.is_for_guests(function.driver) and vfs == "0":
                yield Seen(
                    f"vfio-pci should take {ids} ({place}), but {function.address} has "
                    f"{function.driver}",
                    f"{_before(patient.host, function.driver)}\n"
                    f"{REBUILD}; or leave it to the VM's start: [pci] in vm.toml, and no ids=",
                )


@rule(
    "vfio-ids-replaced",
    "host",
    "warning",
    why="Several ids= do not add up. vfio-pci uses the last one that modprobe gives it: later "
    "files of modprobe.d come after earlier ones, and the kernel's command line after all of them.",
    source="tried with kmod 34.2; vfio_pci.c of Linux, ids=",
)
def replaced(patient: Patient) -> Iterator[Seen]:
    (counts, where), *others = _lists(patient.host) or [([], "")]
    for ids, place in others:
        if lost := [one for one in ids if not {one, _kind(one)} & {*counts}]:
            yield Seen(
                f"vfio-pci does not take {', '.join(lost)} ({place}): "
                f"the ids= of {where} replaces it",
                f"write all of them into one: ids={','.join((*counts, *lost))}",
            )


@rule(
    "vfio-ids-ambiguous",
    "host",
    "warning",
    why="ids= names a kind of device. vfio-pci takes every card of that kind, including the "
    "host's.",
    source="vfio_pci.c of Linux, ids=",
)
def ambiguous(patient: Patient) -> Iterator[Seen]:
    for ids, place in _ids(patient.host):
        slots = {pci.card(one.address) for one in _with_ids(patient.host, ids)}
        if len(slots) > 1:
            yield Seen(
                f"{ids} ({place}) is in more than one slot: {', '.join(sorted(slots))}",
                "remove it from ids=; [pci] in vm.toml binds only the VM's own device, by its "
                "address",
            )


@rule(
    "nvidia-holds-card",
    "host",
    "error",
    why="The nvidia driver lets a card go only when nothing uses it, and waits for that in the "
    "kernel without a limit. Its own display modules may use the card even without a "
    "monitor. The VM's start then hangs, together with libvirt, until a reboot.",
    source="nv-pci.c of NVIDIA's open-gpu-kernel-modules, nv_pci_remove_helper",
    sure="likely",
)
def nvidia(patient: Patient) -> Iterator[Seen]:
    host, guest = patient.host, patient.guest
    users = [name for name in ("nvidia_modeset", "nvidia_drm") if is_loaded(host, name)]
    if guest is None or not users:
        return
    kept = pci.kept_displays(host, guest.domain)
    staying = [one.address for one in kept if one.driver == "nvidia"]
    for card in pci.passed_displays(host, guest.domain):
        if card.driver != "nvidia":
            continue
        seen = f"{card.address} has the driver nvidia, and {' and '.join(users)} may be using it"
        if staying:
            yield Seen(
                f"{seen}; the host's {staying[0]} needs them",
                _from_boot_on(host, guest.domain, card),
            )
        elif "session" not in patient.tables:
            yield Seen(
                seen,
                'in vm.toml, below [session]: manager = "none"\n'
                "Its modules are then unloaded while the VM runs, and the desktop keeps running."
                if kept
                else "in vm.toml: [session]\nThe desktop on it then ends while the VM runs.",
            )


def _from_boot_on(host: Host, domain: Domain, card: pci.Function) -> str:
    """How vfio-pci gets a card before nvidia does, and no other card."""
    given = {one.address for one in domain.pci}
    if all(one.address in given for one in _with_ids(host, card.ids)):
        ids = f"in /etc/modprobe.d/vfio.conf: options vfio-pci ids={card.ids}"
        return f"{ids}\n{_before(host, 'nvidia')}\n{REBUILD}"
    return (
        f"sudo driverctl --noprobe set-override {card.address} vfio-pci\n"
        "then reboot. The host's card has the same IDs, so ids= would take that one as well."
    )


@rule(
    "vfio-virqfd-gone",
    "host",
    "hint",
    why="vfio_virqfd is part of vfio since Linux 6.2. Some initramfs builders fail on a missing "
    "module, and then the other modules in the list are missing as well.",
    source="Kconfig of Linux 6.2, VFIO_VIRQFD; guide: mkinitcpio options",
)
def virqfd(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if boot.release(host) < (6, 2):
        return
    files = [
        *_LISTS,
        *(f"{folder}/{name}" for folder in _LIST_FOLDERS for name in host.names(folder)),
    ]
    for path in files:
        lines = host.lines(path)
        if any("vfio_virqfd" in line.partition("#")[0] for line in lines):
            yield Seen(f"{path} asks for the module vfio_virqfd", f"remove vfio_virqfd from {path}")


def _before(host: Host, driver: str) -> str:
    """How vfio-pci is loaded before a driver."""
    module = of_driver(host, driver) or driver
    if why := softdep.in_vain(host, module):
        return softdep.by_initramfs(module, why)
    path, said = softdep.first(host, module) or ("", "")
    if not path or softdep.is_vfio_first(said):
        return f"in /etc/modprobe.d/vfio.conf: softdep {module} {softdep.VFIO_FIRST}"
    place = path if path.startswith("/etc/") else "/etc/modprobe.d/00-vfio.conf"
    return (
        f"in {place}: softdep {module} {softdep.with_vfio_first(said)}\n"
        f"{softdep.COUNTS}: now softdep {module} {said}, in {path}"
    )


def _ids(host: Host) -> Iterator[tuple[str, str]]:
    """Each "vendor:device" that vfio-pci is told to take, and where that is written."""
    for ids, place in _lists(host)[:1]:
        yield from ((_kind(one), place) for one in ids)


def _kind(ids: str) -> str:
    """The "vendor:device" of an ID, without what may follow."""
    return ":".join(ids.split(":")[:2])


def _lists(host: Host) -> list[tuple[list[str], str]]:
    """Each ids= of vfio-pci, and where that is written. Only the first one counts. An ID may go on
    after vendor and device, with those of the board's maker, so that fewer cards have it."""
    return [
        (value.lower().split(","), place)
        for name, value, place in boot.module_options(host, "vfio-pci")
        if name == "ids"
    ]


def _with_ids(host: Host, ids: str) -> list[pci.Function]:
    wanted = f"0x{ids.partition(':')[2]}"
    found = (
        pci.function(host, address)
        for address in host.names(pci.DEVICES)
        # Reading this one file rules out most devices.
        if host.maybe(f"{pci.DEVICES}/{address}/device") == wanted
    )
    return [one for one in found if one and one.ids == ids]


RULES = (missing, too_late, replaced, ambiguous, nvidia, virqfd)
