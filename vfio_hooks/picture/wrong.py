"""What is wrong with the places of VMs, each problem with the CPUs and devices to mark."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, pci
from vfio_hooks.host.cpu import Topology
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.pci_traits import Traits
from vfio_hooks.placement import Fault, faults, neighbours, room
from vfio_hooks.record import record, replace

Running = tuple[Domain, bool]
"""A domain, and whether it runs."""


@record
class Function:
    """A PCI function with what is known about it; `lanes` are as in `pci_traits.missing_lanes`."""

    base: pci.Function
    traits: Traits
    lanes: tuple[int, int] | None


@record
class Problem:
    """A problem; the picture marks it with its `number`. A "wrong" costs time or fails; a "note"
    may be intended."""

    level: Literal["wrong", "note"]
    text: str
    cpus: CpuSet = frozenset()
    devices: tuple[str, ...] = ()
    number: int = 0


def problems(
    host: Host, found: Topology, domains: Sequence[Running], functions: Sequence[Function]
) -> Iterator[Problem]:
    """All problems, those of each VM together, numbered from 1."""
    every = [
        *(
            one
            for domain, _ in domains
            for one in (*_of(host, found, domain), *_narrow(domain, functions))
        ),
        *_between(host, found, domains),
    ]
    for number, problem in enumerate(every, 1):
        yield replace(problem, number=number)


def _of(host: Host, found: Topology, domain: Domain) -> Iterator[Problem]:
    for fault in faults(room(host, found, domain)):
        yield _problem(fault, domain, fault.kind.level != "hint")


def _problem(fault: Fault, domain: Domain, is_wrong: bool) -> Problem:
    text = f"{domain.name}: {fault.text}"
    return Problem("wrong" if is_wrong else "note", text, fault.cpus, fault.devices)


def _narrow(domain: Domain, functions: Sequence[Function]) -> Iterator[Problem]:
    passed = {function.address for function in domain.pci}
    for one in functions:
        if one.lanes and one.base.address in passed:
            text = "{}: {} {} has {} of {} lanes".format(
                domain.name, one.traits.kind, one.base.address, *one.lanes
            )
            yield Problem("wrong", text, devices=(one.base.address,))


def _between(host: Host, found: Topology, domains: Sequence[Running]) -> Iterator[Problem]:
    """What two VMs share, which is wrong if both run."""
    for (one, runs), (other, other_runs) in combinations(domains, 2):
        for fault in neighbours.shares(room(host, found, one, (other,))):
            yield _problem(fault, one, runs and other_runs)
