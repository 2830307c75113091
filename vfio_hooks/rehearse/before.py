"""What is checked before a rehearsal: whether it may begin, and how often a card can be passed."""

from collections.abc import Iterator

from vfio_hooks import VM_FOLDERS
from vfio_hooks.commands import find
from vfio_hooks.config import Config, load
from vfio_hooks.domain import Domain
from vfio_hooks.domain.files import names, runs
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host import Host, pci, units
from vfio_hooks.host.pci import passed_displays
from vfio_hooks.paths import Paths
from vfio_hooks.quoting import quoted
from vfio_hooks.rehearse import RESCUE, SERVICE
from vfio_hooks.rehearse.clone import name_of, uuid_of


def permitted(domain: Domain, running: bool, here: Paths) -> Config:
    """The VM's configuration. Raises HookError if a rehearsal may not begin."""
    vm, host = domain.name, here.host()
    for unit in (SERVICE, RESCUE):
        if is_active(host, unit):
            raise HookError("another rehearsal is running", f"systemctl status {unit}")
    if running:
        raise HookError(f"{vm} is running", "shut it down first")
    uuids = [uuid for uuid, name in names(host).items() if name == name_of(vm)]
    if uuids not in ([], [uuid_of(vm)]):
        raise HookError(
            f"there is a domain {name_of(vm)}, but the clone needs that name",
            f"virsh domrename {quoted(name_of(vm))} gives it another one",
        )
    config = load(here.config, vm)
    if config is None:
        raise HookError(
            f"{vm} has no folder in {here.config}/{VM_FOLDERS}: there is nothing to rehearse",
            f"vfio-hooks init {quoted(vm)} makes one",
        )
    if config.general.dry_run:
        raise HookError(f"{vm}: dry_run is on, so nothing would be done", "remove it from vm.toml")
    if find("virsh") is None:
        raise HookError("virsh: no such program", "install libvirt-clients")
    ledger = Ledger(here.folder()).read_all()
    ledger.require_whole()
    for uuid, journal in ledger.journals.items():
        if uuid in (domain.uuid, uuid_of(vm)) or not runs(host, uuid, journal.vm):
            name = names(host).get(uuid, journal.vm)
            raise HookError(
                f"this host still has changes for {name}, which is not running",
                f"vfio-hooks undo {quoted(name)}",
            )
    return config


def is_active(host: Host, unit: str) -> bool:
    """Whether a unit runs, or is being started or stopped. Raises HookError."""
    try:
        return units.state(host, unit).active not in ("inactive", "failed")
    except Gone:
        return False


def without_reset(host: Host, domain: Domain) -> Iterator[str]:
    """The passed graphics cards that cannot be reset: not by themselves, and not with their whole
    slot either, because not all of its functions are passed."""
    given = {one.address for one in domain.pci}
    for card in passed_displays(host, domain):
        slot = {one for one in host.names(pci.DEVICES) if pci.card(one) == pci.card(card.address)}
        if not host.maybe(f"{pci.DEVICES}/{card.address}/reset_method") and not slot <= given:
            yield card.address


def goes_dark(host: Host, domain: Domain, config: Config) -> list[str]:
    """Lines about what the user will see."""
    cards = [card.address for card in passed_displays(host, domain)]
    lines = [f"the screens on {address} go dark in each round" for address in cards]
    if any(table.name == "session" for table in config.tables):
        lines.append("the desktop ends, with every program in it: save what is open")
    if config.folder and (found := scripts(host, config.folder)):
        lines.append(f"executables are run, for a VM named {name_of(domain.name)}: {found}")
    return lines


def scripts(host: Host, folder: str) -> str:
    """The operations for which a VM's folder has executables."""
    from vfio_hooks.event import OPERATIONS

    return ", ".join(op for op in OPERATIONS if host.names(f"{folder}/{op}"))
