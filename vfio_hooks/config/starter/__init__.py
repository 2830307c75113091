"""A first vm.toml: the tables that this VM calls for on this host, each with the reason."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from vfio_hooks.config.starter.cards import cards
from vfio_hooks.config.starter.choice import Choice
from vfio_hooks.config.starter.devices import mediated, pci, shared, virtual
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, cgroup, cpufreq
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.host.memory import amount
from vfio_hooks.plugins.pinning import kept
from vfio_hooks.plural import numbered

__all__ = ("Choice", "choices", "toml")
_WIDTH = 96


def choices(domain: Domain, host: Host) -> Iterator[Choice]:
    """The tables that suit a domain on a host, in the order in which the facilities act."""
    if domain.pci and host.exists("/run/systemd/system"):
        why = "few passed-through devices survive a suspend of the host"
        yield Choice("[inhibit]", why)
    yield from cards(domain, host)
    yield from virtual(domain, host)
    yield from mediated(domain, host)
    yield from pci(domain, host)
    yield from shared(domain, host)
    if domain.hugepages is not None:
        yield Choice(
            "[hugepages]", f"its {amount(domain.memory)} of memory are backed by hugepages"
        )
    else:
        why = "its XML has no <memoryBacking><hugepages>, which are faster for a large VM"
        yield Choice("[hugepages]", why, chosen=False)
    pinned = _pinned(domain, host)
    if pinned:
        yield Choice(
            "[memory]",
            "it is bound to CPUs, so NUMA balancing, page merging and similar work of the kernel "
            "only disturb it",
        )
    yield from _cpus(pinned, host)
    if pinned:
        why = f"the host's interrupts are kept off {numbered('CPU', pinned)}"
    else:
        why = "no vCPU is pinned"
    yield Choice("[irqs]", why, chosen=bool(pinned))
    yield from _governor(domain, host)


def toml(domain: Domain, made: Sequence[Choice]) -> str:
    """The file's text."""
    lines = _wrapped(
        f"What vfio-hooks does for {domain.name} while it runs. Each table here switches its "
        f"facility on; an empty table takes everything that it needs from the VM's XML. Values "
        f"after a # are the defaults. man vfio-hooks.toml describes all tables and keys."
    )
    for choice in made:
        lines += ["", *_wrapped(choice.why[:1].upper() + choice.why[1:] + ".")]
        told = (choice.table, *choice.lines)
        lines += told if choice.chosen else [f"# {line.removeprefix('# ')}" for line in told]
    return "\n".join(lines) + "\n"


def _cpus(pinned: CpuSet, host: Host) -> Iterator[Choice]:
    if not pinned:
        why = "no vCPU is pinned; vfio-hooks init --pins chooses CPUs"
        yield Choice("[cpus]", why, chosen=False)
    elif cgroup.layout(host) == "none":
        why = "this needs cpusets, which this host does not have"
        yield Choice("[cpus]", why, chosen=False)
    else:
        why = f"its vCPUs are pinned to {numbered('CPU', pinned)}, and host programs are kept off"
        why += " these CPUs"
        yield Choice("[cpus]", why)


def _pinned(domain: Domain, host: Host) -> CpuSet:
    running = parse_list(host.maybe(f"{CPUS}/online") or "")
    return kept(domain, running) if running else domain.pinned


def _governor(domain: Domain, host: Host) -> Iterator[Choice]:
    policies = cpufreq.policies(host)
    if not policies:
        yield Choice("[governor]", "this host has no CPU frequency control", chosen=False)
        return
    now = policies[0].governor
    if not all("performance" in policy.governors for policy in policies):
        yield Choice("[governor]", "this host does not have the governor performance", chosen=False)
    else:
        whose = "its CPUs" if domain.pinned else "all CPUs"
        yield Choice(
            "[governor]",
            f"{whose} run at full speed while the VM runs; the governor is {now} now",
            ('# governor = "performance"',),
        )


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(_comment(text), _WIDTH)]


def _comment(text: str) -> str:
    """Text that cannot end a comment of TOML."""
    return "".join(one if one.isprintable() else "?" for one in text)
