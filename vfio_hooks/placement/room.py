"""A VM and its host, as all rules about the VM's place see them."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from shlex import quote

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import CPUS, Cache, Node, Topology
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.host.pci_traits import Traits, traits
from vfio_hooks.placement.choice import Placement, place
from vfio_hooks.placement.wish import Cell, Wish, taken
from vfio_hooks.record import record

AUTOSTART = "/etc/libvirt/qemu/autostart"


@record
class Room:
    """A VM and its host. `devices` are the functions that the VM is given, `isolated` the CPUs over
    which the kernel does not spread threads, and `starts` the names of the VMs that start with the
    host."""

    host: Topology
    vm: Domain
    devices: dict[str, Traits]
    others: tuple[Domain, ...] = ()
    isolated: CpuSet = frozenset()
    starts: frozenset[str] = frozenset()

    @cached_property
    def vcpus(self) -> CpuSet:
        """The vCPUs that run when it starts."""
        return frozenset(range(self.vm.vcpus)) - self.vm.idle_vcpus

    @cached_property
    def pins(self) -> dict[int, CpuSet]:
        """The CPUs of each vCPU that runs and is pinned. A pin to every CPU does not count."""
        found = sorted(self.vm.vcpu_pins.items())
        return {
            vcpu: cpus
            for vcpu, cpus in found
            if vcpu not in self.vm.idle_vcpus and not cpus >= self.host.online
        }

    @cached_property
    def single(self) -> dict[int, int]:
        """The CPU of each vCPU that is pinned to just one."""
        return {vcpu: min(cpus) for vcpu, cpus in self.pins.items() if len(cpus) == 1}

    @cached_property
    def own(self) -> CpuSet:
        """The running CPUs that its vCPUs are pinned to."""
        return frozenset[int]().union(*self.pins.values()) & self.host.online

    @property
    def is_spacious(self) -> bool:
        """Whether each vCPU may use more CPUs than there are vCPUs, so that there is room left."""
        return not self.single and len(self.own) > len(self.vcpus)

    @property
    def is_tuned(self) -> bool:
        """Whether placing it is worth the effort: it has a graphics card, a device that is not on
        this host and may be one, or huge pages. Other devices do not need pins."""
        given = self.devices.values()
        has_card = any(one.is_display or one.kind == "device" for one in given)
        return has_card or bool(given and self.vm.hugepages is not None)

    @cached_property
    def homes(self) -> tuple[Node, ...]:
        """The nodes that these are on."""
        return tuple(node for node in self.host.nodes if node.cpus & self.own)

    @cached_property
    def best(self) -> Placement | HookError:
        """Where `init --pins` would put it, or the error if it cannot."""
        answer: Placement | HookError = HookError("this host has no CPU for it")
        # Other VMs may run at other times, so their CPUs are better than none.
        for others in (self.others, ()):
            try:
                return place(self.host, self.wish(others))
            except HookError as error:
                answer = error
        return answer

    def wish(self, others: Iterable[Domain]) -> Wish:
        """What has to be placed, next to these other domains."""
        return Wish(
            vm=self.vm.name,
            vcpus=len(self.vcpus),
            memory=self.vm.memory,
            iothreads=len(self.vm.iothreads),
            node=self.main.node if self.main else None,
            device="graphics card" if self.main is None or self.main.is_display else "device",
            taken=taken(others, self.host.online),
            cells=tuple(self._cells()),
        )

    def _cells(self) -> Iterator[Cell]:
        """The guest's own NUMA nodes with vCPUs that run, if there are several."""
        found = {
            number: running
            for number, vcpus in sorted(self.vm.cell_vcpus.items())
            if (running := vcpus & self.vcpus)
        }
        for number, vcpus in found.items() if len(found) > 1 else ():
            nodes = self.vm.cell_nodes.get(number, frozenset())
            yield Cell(number, vcpus, min(nodes) if len(nodes) == 1 else None)

    @property
    def main(self) -> Traits | None:
        """Its graphics card, else another device; None if no node of one is known."""
        seen = sorted(self.devices.values(), key=lambda one: not one.is_display)
        return next((one for one in seen if one.node is not None), None)

    @property
    def better(self) -> CpuSet:
        """The CPUs to which it should be pinned; none if no place is better."""
        return frozenset(self.best.vcpus) if isinstance(self.best, Placement) else frozenset()

    @property
    def is_no_worse(self) -> bool:
        """Whether these CPUs are on as few nodes, caches and kinds of cores as the current ones,
        and on caches that are as large."""
        groups = [
            *(node.cpus for node in self.host.nodes),
            *(cache.cpus for cache in self.host.l3),
            *self.host.kinds.values(),
        ]
        spread = [sum(bool(cpus & group) for group in groups) for cpus in (self.better, self.own)]
        here, there = (
            min((cache.size for cache in self.host.l3 if cache.cpus & cpus), default=0)
            for cpus in (self.own, self.better)
        )
        is_small = Cache(3, self.better, there).is_dwarfed(here)
        return bool(self.better) and spread[0] <= spread[1] and not is_small

    @property
    def advice(self) -> str:
        """The command that pins it to the better CPUs, and what that does."""
        if isinstance(self.best, HookError):
            return self.best.hint
        cpus = " ".join(map(str, self.best.vcpus))
        told = f"It pins the vCPUs, in their order, to CPUs {cpus}."
        return f"{self.init}\n{told}"

    @property
    def init(self) -> str:
        """The command that pins it."""
        return f"sudo vfio-hooks init {quote(self.vm.name)} --pins"

    @cached_property
    def free(self) -> CpuSet:
        """The CPUs for threads that are not vCPUs: cores without a vCPU of any VM, near ones if
        possible."""
        host = self.host
        vcpus = self.own | taken(self.others, host.online)
        choices = (
            host.online - host.siblings(vcpus),
            host.online - vcpus,
            host.online - host.siblings(self.own),
        )
        free = next(filter(None, choices), host.online - self.own)
        return free & frozenset[int]().union(*(home.cpus for home in self.homes)) or free


def room(host: Host, found: Topology, vm: Domain, others: Iterable[Domain] = ()) -> Room:
    """A VM on its host. Raises HookError if the host's files cannot be from a kernel."""
    names = host.names(AUTOSTART)
    return Room(
        host=found,
        vm=vm,
        devices={one.address: traits(host, one.address) for one in vm.pci},
        others=tuple(others),
        isolated=parse_list(host.maybe(f"{CPUS}/isolated") or ""),
        starts=frozenset(name.removesuffix(".xml") for name in names),
    )
