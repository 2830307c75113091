"""What is wrong with where VMs are, each with the CPUs and devices to mark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.host import pci
from vfio_hooks.host.cpu import Topology
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.pci_traits import Traits

Running = tuple[Domain, bool]
"""A domain, and whether it runs."""


@dataclass(frozen=True)
class Function:
    """A PCI function with what there is to know of it; `lanes` as `pci_traits.missing_lanes`."""

    base: pci.Function
    traits: Traits
    lanes: tuple[int, int] | None


@dataclass(frozen=True)
class Problem:
    """`number` is what the picture marks it with. A "wrong" costs time or fails; a "note" may be
    meant that way."""

    level: Literal["wrong", "note"]
    text: str
    cpus: CpuSet = frozenset()
    devices: tuple[str, ...] = ()
    number: int = 0


def problems(
    found: Topology, domains: Sequence[Running], functions: Sequence[Function]
) -> Iterator[Problem]:
    """All problems, those of each VM together, numbered from 1."""
    every = [
        *(
            one
            for domain, _ in domains
            for one in (*_of(domain, found, functions), *_narrow(domain, functions))
        ),
        *_between(domains),
    ]
    for number, problem in enumerate(every, 1):
        yield replace(problem, number=number)


def _of(domain: Domain, found: Topology, functions: Sequence[Function]) -> Iterator[Problem]:
    pinned = domain.pinned & found.online
    if not domain.pinned:
        yield Problem("note", f"{domain.name}: no vCPU is pinned: they run on any CPU")
        return
    if gone := domain.pinned - found.online:
        yield Problem(
            "wrong",
            f"{domain.name}: pinned to {_cpus(gone)}, which this host does not have online",
            gone,
        )
    if not found.online - pinned:
        yield Problem("wrong", f"{domain.name}: leaves the host no CPU", pinned)
    yield from _doubled(domain)
    yield from _siblings(domain, found, pinned)
    yield from _mixed(domain, found, pinned)
    yield from _spread(domain, found, pinned)
    helpers = (domain.emulator_pin or frozenset()).union(*domain.iothread_pins.values())
    if beside := helpers & pinned:
        yield Problem(
            "note",
            f"{domain.name}: emulator or I/O threads where its vCPUs are: {_cpus(beside)}",
            beside,
        )
    yield from _far(domain, found, pinned, functions)


def _doubled(domain: Domain) -> Iterator[Problem]:
    single = [(vcpu, cpus) for vcpu, cpus in domain.vcpu_pins.items() if len(cpus) == 1]
    for (vcpu, cpus), (other, others) in combinations(single, 2):
        if cpus == others:
            text = f"{domain.name}: vCPUs {vcpu} and {other} share CPU {format_list(cpus)}"
            yield Problem("wrong", text, cpus)


def _siblings(domain: Domain, found: Topology, pinned: CpuSet) -> Iterator[Problem]:
    """Pins that split a core, or pair vCPUs in another way than the guest believes."""
    split = [core for core in found.cores if core & pinned and core - pinned]
    if split:
        cpus = frozenset[int]().union(*split)
        text = (
            f"{domain.name}: has {_cpus(cpus & pinned)} without the SMT siblings, "
            f"{_cpus(cpus - pinned)}, which the host then uses"
        )
        yield Problem("wrong", text, cpus)
    core_of = {cpu: core for core in found.cores for cpu in core}
    threads = max(domain.threads, 1)
    single = {vcpu: next(iter(c)) for vcpu, c in domain.vcpu_pins.items() if len(c) == 1}
    apart = frozenset(
        cpu
        for vcpu in single
        if (first := vcpu - vcpu % threads) in single
        and core_of.get(single[vcpu]) != core_of.get(single[first])
        for cpu in (single[first], single[vcpu])
    )
    if apart:
        text = (
            f"{domain.name}: the guest believes in cores of {threads} threads, but its pairs of "
            f"vCPUs are apart, at {_cpus(apart)}"
        )
        yield Problem("wrong", text, apart)
    if threads == 1:
        used = sorted(single.values())
        together = [core for core in found.cores if len(core & frozenset(used)) > 1]
        if together:
            cpus = frozenset[int]().union(*together) & pinned
            text = (
                f"{domain.name}: vCPUs on {_cpus(cpus)} share cores, and the guest is "
                "not told (<topology threads='2'>)"
            )
            yield Problem("note", text, cpus)


def _mixed(domain: Domain, found: Topology, pinned: CpuSet) -> Iterator[Problem]:
    kinds = [kind for kind, cpus in found.kinds.items() if cpus & pinned]
    if len(kinds) > 1:
        slow = pinned - found.kinds[kinds[0]]
        text = (
            f"{domain.name}: vCPUs are on {' and '.join(kinds)} cores, and the guest takes all for "
            f"alike (slower: {_cpus(slow)})"
        )
        yield Problem("note", text, slow)


def _spread(domain: Domain, found: Topology, pinned: CpuSet) -> Iterator[Problem]:
    homes = [node for node in found.nodes if node.cpus & pinned]
    if len(homes) > 1 and len(domain.cell_memory) < 2:
        numbers = format_list(node.number for node in homes)
        text = f"{domain.name}: vCPUs are on nodes {numbers}, and the guest is told of one"
        yield Problem("wrong", text, pinned)
        return
    caches = [cache for cache in found.l3 if cache.cpus & pinned]
    if len(caches) > (enough := found.fewest_l3(len(pinned))):
        parts = " and ".join(format_list(cache.cpus & pinned) for cache in caches)
        text = (
            f"{domain.name}: vCPUs are split between L3 caches ({parts}); they would fit in "
            f"{enough if enough > 1 else 'one'}"
        )
        yield Problem("note", text, pinned)


def _far(
    domain: Domain, found: Topology, pinned: CpuSet, functions: Sequence[Function]
) -> Iterator[Problem]:
    homes = {node.number for node in found.nodes if node.cpus & pinned}
    passed = {function.address for function in domain.pci}
    far: dict[int, list[Function]] = {}
    for one in functions:
        node = one.traits.node
        if one.base.address in passed and node is not None and node not in homes:
            far.setdefault(node, []).append(one)
    for node, members in far.items():
        if not homes or not any(one.number == node for one in found.nodes):
            continue
        first = next((one for one in members if one.traits.is_display), members[0])
        text = (
            f"{domain.name}: {first.traits.kind} {first.base.address} is at node {node}, the "
            f"vCPUs at node{'s' if len(homes) > 1 else ''} {format_list(homes)}"
        )
        level: Literal["wrong", "note"] = "wrong" if first.traits.is_display else "note"
        addresses = tuple(one.base.address for one in members)
        yield Problem(level, text, devices=addresses)


def _narrow(domain: Domain, functions: Sequence[Function]) -> Iterator[Problem]:
    passed = {function.address for function in domain.pci}
    for one in functions:
        if one.lanes and one.base.address in passed:
            text = "{}: {} {} has {} of {} lanes".format(
                domain.name, one.traits.kind, one.base.address, *one.lanes
            )
            yield Problem("wrong", text, devices=(one.base.address,))


def _between(domains: Sequence[Running]) -> Iterator[Problem]:
    """What two VMs both have."""
    for (one, runs), (other, other_runs) in combinations(domains, 2):
        level: Literal["wrong", "note"] = "wrong" if runs and other_runs else "note"
        if shared := one.pinned & other.pinned:
            text = f"{one.name} and {other.name}: both have vCPUs on {_cpus(shared)}"
            yield Problem(level, text, shared)
        mine, theirs = ({f.address for f in d.pci} for d in (one, other))
        if devices := sorted(mine & theirs):
            text = f"{one.name} and {other.name}: both are given {', '.join(devices)}"
            yield Problem(level, text, devices=tuple(devices))


def _cpus(cpus: CpuSet) -> str:
    return f"CPU{'s' if len(cpus) > 1 else ''} {format_list(cpus)}"
