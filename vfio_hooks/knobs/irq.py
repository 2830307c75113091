"""The CPUs that an interrupt may go to."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Gone, Immovable
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cpu import NODES
from vfio_hooks.host.cpulist import format_list, parse_list, parse_mask
from vfio_hooks.host.irq import DEFAULT, balancer, numbers
from vfio_hooks.knobs.cpu_set import CpuSetKnob, running
from vfio_hooks.knobs.file import CpuMask, read_file
from vfio_hooks.record import record
from vfio_hooks.sharing import offline, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vfio_hooks.sharing import Share


@record
class IrqAffinity(CpuSetKnob):
    """smp_affinity_list of one interrupt; the value is its CPU list.

    https://docs.kernel.org/core-api/irq/irq-affinity.html
    """

    number: int
    kind = "irq"
    begins_as = DEFAULT
    # A driver that is reset gives its interrupts back and asks for new ones.
    is_brief = True

    @property
    def key(self) -> str:
        return f"/proc/irq/{self.number}/smp_affinity_list"

    def read(self, host: Host) -> str:
        return format_list(parse_list(read_file(host, self.key)))

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.key: self._goes_to(host, value)}

    def _write(self, host: WritableHost, value: str) -> None:
        try:
            host.write(self.key, self._goes_to(host, value))
        except OSError as error:
            # A managed interrupt (nvme's queues) or a per-CPU one: EIO up to Linux 6.1 and
            # later EPERM.
            if error.errno in (errno.EIO, errno.EPERM):
                raise Immovable(
                    f"IRQ {self.number} is managed by the kernel, so it stays"
                ) from None
            if error.errno == errno.ENOENT:
                raise Gone(f"IRQ {self.number} no longer exists") from None
            hint = ""
            if error.errno == errno.ENOSPC:
                hint = (
                    "the CPUs that are left have no free interrupt vectors: leave more CPUs "
                    "to the host"
                )
            raise refused(f"move to CPUs {value}", f"IRQ {self.number}", error, hint) from None

    def took(self, live: str, value: str, host: Host) -> bool:
        return self.same(live, value, host) or self.same(live, self._goes_to(host, value), host)

    def _goes_to(self, host: Host, value: str) -> str:
        """The CPUs that are asked for. If none of them is online, these are all that are, as for
        the kernel."""
        there = running(host)
        return value if parse_list(value) & there else format_list(there)

    def begun(self, value: str, host: Host) -> str:
        """The kernel uses only the CPUs of the device's NUMA node, if the mask has any of them."""
        node = host.maybe(f"/proc/irq/{self.number}/node") or ""
        near = parse_mask(host.maybe(f"{NODES}/node{node}/cpumap") or "0")
        return format_list(parse_list(value) & near) or value

    def has_begun(self, live: str, value: str, absent: str, host: Host) -> bool:
        """When an interrupt starts, the kernel takes CPUs that are offline out of its mask."""
        now, all_cpus = parse_list(live), parse_list(value)
        there = running(host) - parse_list(absent)
        was_less = now < all_cpus and now & there == all_cpus & there
        return was_less or self.same(live, value, host)

    def is_ours(self, live: str, base: str, shares: Sequence[Share], host: Host) -> bool:
        # A line that was idle starts when the guest takes its device.
        return super().is_ours(live, base, shares, host) or self.has_begun(
            live, target(base, shares), offline(shares), host
        )

    def mover(self, host: Host) -> str:
        return "irqbalance" if balancer(host) else ""


@record
class IrqDefault(CpuMask):
    """default_smp_affinity: the CPUs of every interrupt that comes up later."""

    path: str = DEFAULT
    mask: bool = True
    kind = "irq-default"

    def followers(self, host: Host) -> Iterator[IrqAffinity]:
        return map(IrqAffinity, numbers(host))
