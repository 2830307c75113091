"""A card with virtual functions that is given to a VM as a whole.

When its driver lets the card go, the VFs disappear, whoever uses them. The driver comes back
without any.
"""

from collections.abc import Iterator

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.pci import Function, is_for_guests
from vfio_hooks.host.sriov import users, vfs
from vfio_hooks.knobs.vf_count import VfCount
from vfio_hooks.sharing import Exclusive
from vfio_hooks.steps import Step


def steps(function: Function, domain: Domain, host: Host) -> Iterator[Step]:
    """The steps that bring the VFs back once their card has its driver again: first their number,
    then their settings. They have to be planned before the card is taken. Raises HookError if
    somebody uses one of the VFs."""
    there = vfs(host, function.address)
    if not there or is_for_guests(function.driver):
        return
    given = {passed.address for passed in domain.pci}
    missed = [
        f"VF {number} ({vf}) is given to this VM, too"
        for number, vf in there.items()
        if vf in given
    ]
    if missed := missed or list(users(host, function.address)):
        raise HookError(
            f"{function} cannot be given to the VM, because it would lose its virtual functions "
            f"({len(there)}), which are in use: {'; '.join(missed[:3])}",
            "give the VM one of these instead, or stop what uses them",
        )
    from vfio_hooks.knobs.vf_setting import all_settings

    for setting in all_settings(host, function.address):
        yield Step("pci", setting, Exclusive(), required=False)
    yield Step("pci", VfCount(function.address), Exclusive())
