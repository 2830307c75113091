"""What is wrong, or could be better, on this host, with the hook on it, and in a domain.

A rule looks for one thing that is wrong or could be better. It reads, and changes nothing.
"""

import os
import re
from collections.abc import Collection
from functools import cache
from importlib import import_module
from typing import get_args

from vfio_hooks.check.rule import Area, Patient, Rule, Seen
from vfio_hooks.domain import guarded
from vfio_hooks.errors import HookError, Unread, reason
from vfio_hooks.host.pci import ADDRESS
from vfio_hooks.placement.kinds import Level
from vfio_hooks.record import record, replace

MODULES = (
    *("host.iommu", "host.groups", "host.vfio", "host.modprobe", "host.firmware"),
    *("host.cpu", "host.kernel", "host.isolation", "host.tables", "host.power"),
    *("host.memory_users", "host.kvm", "host.logged"),
    *("hook.start", "hook.installed", "hook.daemon", "hook.files", "hook.unused", "hook.journals"),
    *("hook.doubled", "hook.shutdown"),
    *(
        "domain.machine",
        "domain.qemu",
        "domain.commandline",
        "domain.model",
        "domain.cores",
        "domain.placement",
        "domain.threads",
        "domain.guest_memory",
    ),
    *("domain.slots", "domain.devices", "domain.resets", "domain.rom", "domain.links"),
    *("domain.holders", "domain.inputs"),
    *("domain.hyperv", "domain.clock", "domain.disks", "domain.iothreads", "domain.costs"),
)
"""The modules of this package that have RULES, in the order of the manual."""


FIRST_RANK = tuple(
    """
    start-refused device-absent device-no-group device-mdev-absent device-not-managed
    device-rom-file group-shared iommu-off iommufd-missing disk-nvme-apparmor memory-host
    device-rom-apparmor machine-arch machine-emulator
    memory-limit memory-shared memory-pool memory-page-size memory-kvmfr console-without-spice
    cpu-topology-product machine-type-gone machine-firmware-file disk-io-cache pci-no-function-0
    pci-multifunction hyperv-evmcs-on-amd hyperv-requirements pins-offline cpu-override
    cpu-hypervisor-off cpu-mode cpu-address-width
    cpu-topology cpu-topoext hyperv-off clock-hyperv pins-none pins-all pins-twice pins-siblings
    pins-isolated pins-realtime pins-emulator node-pins node-memory pci-behind-bridge pci-root-bus
    device-function-left disk-unstable-name disk-cache-unsafe disk-bus iothreads-unused
    memory-balloon pci-viommu-group pci-viommu-caching machine-q35 machine-tpm argument-set
    device-by-argument
    input-unstable-name
    """.split()
)
"""The findings that matter most: what they report keeps the VM from starting, loses data, or costs
most of the performance that passthrough is for."""

RETIRED = frozenset(
    """
    clock-tsc device-nvidia-hidden disk-io extra-sound governor-not-set hyperv-frequencies
    hyperv-ipi hyperv-reenlightenment hyperv-relaxed hyperv-reset hyperv-runtime hyperv-spinlocks
    hyperv-stimer hyperv-synic hyperv-tlbflush hyperv-vapic hyperv-vpindex irqs-on-vm-cpus
    kvm-ignore-msrs machine-vmport nmi-watchdog-on numa-balancing-on programs-on-vm-cpus
    """.split()
)
"""Names of rules that no longer exist. A vm.toml may still silence them."""


@record
class Finding:
    """What a rule saw. `level` is the rule's, or "hint" where the rule could not look."""

    rule: Rule
    seen: Seen
    level: Level


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule there is."""
    modules = [import_module(f"vfio_hooks.check.{name}") for name in MODULES]
    return tuple(rule for module in modules for rule in module.RULES)


def examine(
    patient: Patient,
    silenced: Collection[str] = (),
    areas: Collection[Area] = ("host", "hook", "domain"),
) -> list[Finding]:
    """What the rules find, worst first and by area; those `silenced` by name are not asked."""
    if patient.guest:
        guest = replace(patient.guest, domain=guarded(patient.guest.domain))
        patient = replace(patient, guest=guest)
    asked = [rule for rule in rules() if rule.name not in silenced and rule.area in areas]
    if patient.guest is None:
        asked = [rule for rule in asked if rule.area != "domain"]
    found = [finding for rule in asked for finding in _ask(rule, patient)]
    return sorted(_once(found), key=_rank)


def _once(found: list[Finding]) -> list[Finding]:
    """The findings without the plan's refusals that are only about devices which other errors
    name already."""
    told = {
        address
        for one in found
        if one.level == "error" and one.rule.name != _PLAN
        for address in re.findall(ADDRESS, one.seen.text)
    }

    def is_told(one: Finding) -> bool:
        addresses = set(re.findall(ADDRESS, one.seen.text))
        return one.rule.name == _PLAN and bool(addresses) and addresses <= told

    return [one for one in found if not is_told(one)]


def _ask(rule: Rule, patient: Patient) -> list[Finding]:
    """What one rule finds. Any file of a host may be missing, unreadable or full of nonsense: that
    is no defect of this program, and the other rules still run."""
    try:
        return [Finding(rule, seen, rule.level) for seen in rule.look(patient)]
    except PermissionError as error:
        if os.geteuid():
            return [
                Finding(rule, Seen("only root can look at this", "try again with sudo"), "hint")
            ]
        why = f"{error.filename}: {reason(error)}"
    except OSError as error:
        why = f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    except Unread:
        # The rule "domain-unread" reports that, once.
        return []
    except HookError as error:
        why = error.problem
    except (ValueError, LookupError) as error:
        why = f"{type(error).__name__}: {error}"
    return [Finding(rule, Seen(f"this could not be looked at: {why}", _UNSEEN), "hint")]


_UNSEEN = "look at what is there; it may be right, and newer than this version"
_AREAS, _LEVELS = get_args(Area), get_args(Level)


_PLAN = "start-refused"


def _rank(finding: Finding) -> tuple[bool, int, int]:
    return finding.rule.name != _PLAN, _LEVELS.index(finding.level), _AREAS.index(finding.rule.area)
