"""Which guest a domain is for, and which parts of its XML reach the guest at all."""

from itertools import pairwise

from vfio_hooks.check.rule import Guest
from vfio_hooks.domain.devices import QEMU

OSINFO = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}os"
_OLD = frozenset("1.0 2.0 2.1 3.1 95 98 me nt3.1 nt3.5 nt4.0 2k xp 2k3 2k3r2".split())
"""Windows before Vista, by the names of libosinfo."""
OFF = ("disable", "forbid")
"""Policies of a <feature> that take it from the guest."""


def is_kvm(guest: Guest) -> bool:
    return guest.xml.get("type") == "kvm"


def is_x86(guest: Guest) -> bool:
    kind = guest.xml.find("os/type")
    return kind is not None and kind.get("arch", "x86_64") in ("x86_64", "i686")


def machine(guest: Guest) -> str:
    """The machine type: "pc-q35-7.0"; empty if it is QEMU's default."""
    kind = guest.xml.find("os/type")
    return "" if kind is None else kind.get("machine", "")


def is_q35(guest: Guest) -> bool:
    return "q35" in machine(guest)


def is_pcie(guest: Guest) -> bool:
    """Whether the machine has PCI Express: q35, and the "virt" of other architectures."""
    root = guest.xml.find("devices/controller[@model='pcie-root']")
    return is_q35(guest) or root is not None


def noted_os(guest: Guest) -> str:
    """The guest's system as libosinfo noted it: "http://microsoft.com/win/11"; empty if it is not
    noted, or is unknown."""
    noted = next(guest.xml.iter(OSINFO), None)
    name = "" if noted is None else noted.get("id", "")
    return "" if "unknown" in name else name


def is_macos(guest: Guest) -> bool:
    """Whether the guest is macOS: libosinfo noted that, or it has the controller or the boot loader
    that only macOS needs."""
    disks = (one.get("file", "") for one in guest.xml.iterfind("devices/disk/source"))
    return (
        "apple.com" in noted_os(guest)
        or any("applesmc" in one.lower() for one in arguments(guest))
        or any("opencore" in one.lower() for one in disks)
    )


def is_windows(guest: Guest) -> bool:
    """Whether the guest is Windows: libosinfo noted that, or it has what only Windows is given."""
    if is_macos(guest):
        return False
    if noted := noted_os(guest):
        return "microsoft.com/win" in noted
    clock = guest.xml.find("clock")
    local = clock is not None and clock.get("offset") == "localtime"
    return local or guest.xml.find("features/hyperv") is not None


def is_windows_server(guest: Guest) -> bool:
    return noted_os(guest).rpartition("/win/")[2].startswith("2k")


def is_old_windows(guest: Guest) -> bool:
    """Whether it is one before Vista (2007), which knows nothing of Hyper-V, AHCI or UEFI."""
    return noted_os(guest).rpartition("/win/")[2] in _OLD


def arguments(guest: Guest) -> list[str]:
    """What QEMU is given beside libvirt's own arguments."""
    found = guest.xml.iterfind(f"{QEMU}commandline/{QEMU}arg")
    return [one.get("value", "") for one in found]


def own_cpu(guest: Guest) -> str | None:
    """The last -cpu of <qemu:commandline>, which is the one that QEMU goes by; None without."""
    given = arguments(guest)
    values = [value for name, value in pairwise(given) if name == "-cpu"]
    return values[-1] if values else None


def shapes_itself(guest: Guest) -> bool:
    """Whether <qemu:commandline> has a -smp, whose sockets, cores and threads QEMU goes by."""
    return "-smp" in arguments(guest)


def hides_hypervisor(guest: Guest) -> bool:
    """Whether the guest's processor lacks the bit that says that it is virtual."""
    given = own_cpu(guest)
    if given is None:
        return policy(guest, "hypervisor") in OFF
    return not _last_word(given.split(",")[1:], "hypervisor")


def _last_word(given: list[str], feature: str) -> bool:
    """Whether a feature is on, by the words after the model in -cpu. QEMU applies "feature=on|off"
    in their order, then every "+feature", then every "-feature" (target/i386/cpu.c)."""
    if f"-{feature}" in given:
        return False
    known = {f"{feature}=on": True, feature: True, f"{feature}=off": False}
    states = [known[word] for word in given if word in known]
    return f"+{feature}" in given or (states[-1] if states else True)


def sees_lights(guest: Guest) -> bool:
    """Whether <hyperv> and <timer name='hypervclock'> are of use: for Windows, which asks for
    them where it sees a hypervisor, and unless another -cpu takes the place of theirs."""
    fits = is_kvm(guest) and is_x86(guest) and is_windows(guest) and not is_old_windows(guest)
    return fits and own_cpu(guest) is None and not hides_hypervisor(guest)


def policy(guest: Guest, feature: str) -> str | None:
    """What <cpu> says of a feature; None if it is not named."""
    found = guest.xml.find(f"cpu/feature[@name='{feature}']")
    return None if found is None else found.get("policy", "require")


def attribute(guest: Guest, path: str, name: str) -> str | None:
    """An attribute of the first element at a path, None if there is no such thing."""
    element = guest.xml.find(path)
    return None if element is None else element.get(name)
