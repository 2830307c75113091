"""What a host needs at boot, for one VM or for any: the same as the findings of `check` advise."""

from collections.abc import Iterator

from vfio_hooks.boot import MODPROBE, Need
from vfio_hooks.boot.joining import PAGES, is_given, other
from vfio_hooks.boot.journal import ours, own_line
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, boot, pci, softdep
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.record import replace

_GIB = 1 << 20
"""In KiB, as sizes of pages are."""


def needs(host: Host, domain: Domain | None) -> list[Need]:
    """All that is needed and that is not in the user's own files. What `boot apply` has written for
    another VM does not count as given: it may be taken back for that VM alone."""
    mine = ours(host)
    found = [*_iommu(host, mine)]
    if domain is not None:
        found += [*_pages(host, domain), *_interrupts(host, domain), *_cards(host, domain)]
    told = (*softdep.own(host), *boot.modprobe(host))
    line = own_line(host)
    lines = [*(" ".join(words) for path, words in told if path != MODPROBE), line]
    placed = ((need, lines if need.is_modprobe else [line]) for need in found)
    return [
        replace(need, instead=other(need.text, given))
        for need, given in placed
        if not is_given(need.text, given)
    ]


def _iommu(host: Host, mine: list[str]) -> Iterator[Need]:
    groups = host.names(pci.GROUPS)
    is_off = not groups and host.exists("/sys/firmware/acpi/tables/DMAR")
    if is_off or "intel_iommu=on" in mine:
        yield Need("intel_iommu=on", "without it, this kernel leaves Intel's IOMMU off")
    kinds = (host.maybe(f"{pci.GROUPS}/{group}/type") or "" for group in groups)
    # Once it is on, groups of this kind will exist. So both words take only one reboot.
    if is_off or "iommu=pt" in mine or any(kind.startswith("DMA") for kind in kinds):
        yield Need("iommu=pt", "the host's own devices need no translation of their addresses")


def _pages(host: Host, domain: Domain) -> Iterator[Need]:
    """Pages of 1 GiB, which can hardly be made later. [hugepages] provides all other sizes."""
    if any(page.size == _GIB for page in domain.hugepages or ()):
        count = -(-domain.memory // _GIB)
        yield Need(f"{PAGES}{count}", f"{domain.name} has pages of 1 GiB")


def _interrupts(host: Host, domain: Domain) -> Iterator[Need]:
    """The kernel itself spreads the interrupts of NVMe queues over all CPUs, and lets nobody move
    them."""
    if domain.pinned and host.names("/sys/class/nvme"):
        cpus = format_list(domain.pinned)
        yield Need(f"isolcpus=managed_irq,{cpus}", "the host's NVMe interrupts stay off these CPUs")


def _cards(host: Host, domain: Domain) -> Iterator[Need]:
    """nvidia's driver does not let go of one of two cards, so vfio-pci has to take it first. ids=
    takes all cards of a kind, so it is only used if the host has no second one."""
    if not any(one.driver == "nvidia" for one in pci.kept_displays(host, domain)):
        return
    given = {one.address for one in domain.pci}
    for card in pci.passed_displays(host, domain):
        twins = [
            address
            for address in host.names(pci.DEVICES)
            if (one := pci.function(host, address)) and one.ids == card.ids
        ]
        if card.driver == "nvidia" and given.issuperset(twins):
            why = f"{card.address} is for {domain.name}, and the host's card has the driver nvidia"
            yield Need(f"options vfio-pci ids={card.ids}", why, is_modprobe=True)
            yield Need(f"softdep nvidia {softdep.VFIO_FIRST}", why, is_modprobe=True)
