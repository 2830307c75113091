"""A rule about a domain of QEMU's."""

from collections.abc import Callable, Iterable

from vfio_hooks.check.rule import Guest, Patient, Rule, Seen
from vfio_hooks.placement.kinds import Level, Sure

HYPERVISORS = ("kvm", "qemu")
Look = Callable[[Patient, Guest], Iterable[Seen]]


def guest_rule(
    name: str, level: Level, *, why: str, source: str, sure: Sure = "certain"
) -> Callable[[Look], Rule]:
    """Make a rule of the function that looks, which is not asked about other hypervisors' domains.

    A `source` without a scheme is a section of libvirt's description of the domain XML.
    """
    page = source if " " in source or ":" in source else f"{FORMAT}#{source}"
    return lambda look: Rule(name, "domain", level, why, page, _asked(look), sure)


FORMAT = "https://libvirt.org/formatdomain.html"


def _asked(look: Look) -> Callable[[Patient], Iterable[Seen]]:
    def ask(patient: Patient) -> Iterable[Seen]:
        guest = patient.guest
        if guest is None or guest.xml.get("type") not in HYPERVISORS:
            return ()
        return look(patient, guest)

    return ask
