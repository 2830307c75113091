"""The frequency governor of the VM's CPUs, and related settings, while the VM runs.

An empty table sets the governor performance. CPUs that can only change their frequency together are
one policy of the kernel, and are set together. Every policy gets its own former values back,
including its governor's tunables, which the kernel may have forgotten.
If all CPUs of a policy are offline when the VM stops, it gets its values back when they are online,
with the next event of a VM that has a vm.toml, or by vfio-hooks undo.
If several VMs need different values for a policy or a CPU, the VM that was started last decides,
and when it stops, the VM before it.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import CPUS, online
from vfio_hooks.host.cpufreq import FOLDER, Policy, boost_switch, policies
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.modules import folder, is_known
from vfio_hooks.knobs.energy import EnergyPreference
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.frequency import Frequency
from vfio_hooks.knobs.governor import Governor
from vfio_hooks.knobs.module import LOADED, Module
from vfio_hooks.plugins.pinning import SAID
from vfio_hooks.record import record
from vfio_hooks.sharing import Once, Override
from vfio_hooks.steps import Step

UNCHANGED = "unchanged"
_LONGEST = (1 << 31) - 2
"""The longest limit, in µs. The kernel uses the next number for "no limit"."""
INSTEAD = dict.fromkeys(("cpus", "cores"), SAID)


@record
class Options:
    governor: str = "performance"
    """One of scaling_available_governors, or another one that the kernel has as a module. That
    module then stays loaded. "unchanged" leaves each CPU the one that it has."""
    cpus: Literal["pinned", "all"] = "pinned"
    """Which CPUs are meant: "pinned" stands for those that the vCPUs are pinned to, or for all CPUs
    if the domain pins none; "all" always stands for all."""
    energy_performance_preference: str | None = None
    """One of energy_performance_available_preferences. In the active modes of intel_pstate and
    amd_pstate the governor performance allows only the preference performance. To choose another
    one, set governor = "powersave", which is the normal mode there and no slower."""
    boost: bool | None = None
    """Whether turbo frequencies are on, for all CPUs of the host."""
    min_freq: int | None = None
    """The lowest frequency in kHz, rounded up to one that the CPU has."""
    max_exit_latency: int | None = None
    """How many microseconds the CPUs may take at most to wake from an idle state (C-state). Deeper
    states are not used. With 0 only states without any exit latency remain: an x86 CPU then never
    sleeps but polls, at full power, even while the guest does nothing. Without this key there is no
    limit. What this host's states take is in /sys/devices/system/cpu/cpu0/cpuidle/state*/latency;
    without cpuidle there are no such states, and the limit has no effect. The kernel's own file,
    power/pm_qos_resume_latency_us of each CPU, shows this 0 as "n/a"; a 0 there means no limit."""
    power_profile: Literal["performance", "power-saver"] | None = None
    """A profile that power-profiles-daemon or tuned-ppd holds while the VM runs, so that neither of
    them changes the CPUs meanwhile. It is for the whole host; what the other keys and tables say is
    set on top of it. `powerprofilesctl list-holds` shows it. A small service
    (vfio-hooks-profile-UUID) asks for it; when that ends, the daemon goes back to the profile from
    before. With power-profiles-daemon, one that was chosen before the daemon was last started is
    lost, with "balanced" in its place, if another program still holds a profile when the last VM
    ends. If somebody chooses another profile in the meantime, that one holds, and the log says
    so."""

    def __post_init__(self) -> None:
        if not self.governor.isidentifier():
            raise ValueError('governor must be the name of a governor, such as "performance"')
        if self.min_freq is not None and self.min_freq <= 0:
            raise ValueError("min_freq must be a number of kHz, such as 2800000")
        if self.max_exit_latency is not None and not 0 <= self.max_exit_latency <= _LONGEST:
            raise ValueError(
                "max_exit_latency must be a number of microseconds, such as 20; leave it out for "
                "no limit"
            )


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    chosen = _chosen(domain, options, host)
    module = _loaded(chosen, options.governor, host)
    if options.power_profile is not None:
        from vfio_hooks.plugins.governor import power_profile

        # First, because the daemon sets what the following steps set, too; so it is released last.
        yield power_profile.held(domain, options.power_profile, host)
    if module is not None:
        yield module
    if options.boost is not None:
        yield _boost(options.boost, host)
    for policy in chosen:
        yield from _policy_steps(policy, options, host)
    if options.max_exit_latency is not None:
        yield from _latency_steps(options.max_exit_latency, _cpus(domain, options, host), host)


def _cpus(domain: Domain, options: Options, host: Host) -> CpuSet:
    is_all = options.cpus == "all" or not domain.pinned
    return online(host) if is_all else domain.pinned


def _chosen(domain: Domain, options: Options, host: Host) -> list[Policy]:
    there = policies(host)
    if not there:
        raise HookError(
            f"this host has no CPU frequency control ({FOLDER} has no policy)",
            "switch it on in the firmware, or load its driver (modprobe acpi_cpufreq); a virtual "
            "machine has none, so remove [governor] from vm.toml there",
        )
    if options.cpus == "all" or not domain.pinned:
        return there
    chosen = [policy for policy in there if policy.cpus & domain.pinned]
    if not chosen:
        raise HookError(
            f"CPUs {format_list(domain.pinned)}, which the domain is pinned to, have no "
            f"frequency policy on this host",
            "pin vCPUs to CPUs that are online",
        )
    return chosen


def _loaded(chosen: Sequence[Policy], governor: str, host: Host) -> Step | None:
    """The step that loads a governor's module, None where it is not needed. Raises HookError for a
    governor that there is not."""
    lacking = [one for one in chosen if governor not in (*one.governors, UNCHANGED)]
    if not lacking:
        return None
    module = f"cpufreq_{governor}"
    # Without depmod's lists nothing is known about modules, and only listed governors count.
    lists = f"{folder(host)}/modules.dep"
    known = host.exists(lists) and is_known(host, module)
    for policy in lacking:
        if policy.is_self_governed or not known:
            raise HookError(
                f"{policy.name} ({policy.driver}) has no governor {governor!r}",
                f"there are: {', '.join(policy.governors)}",
            )
    return Step("governor", Module(module), Once(LOADED))


def _boost(on: bool, host: Host) -> Step:
    switch = boost_switch(host)
    if switch is None:
        raise HookError(
            "this host's CPU frequency driver cannot switch boost",
            "remove boost from [governor]",
        )
    path, inverted = switch
    return Step("governor", File(path), Override(str(int(on != inverted))))


def _policy_steps(policy: Policy, options: Options, host: Host) -> Iterator[Step]:
    """A policy's steps, in an order that is right forwards and, for the undo, backwards.

    A self-governed driver accepts an energy preference only while the governor is not performance.
    So the preference comes before a change to performance (and is put back after it), and after a
    change away from it (and is put back before it). It is claimed even if no key asks for it, since
    not every driver remembers it through performance, unless the kernel does not show it.
    """
    knob = Governor(policy.file("scaling_governor"))
    # One that is in use already keeps its tunables.
    wanted = knob.read(host) if policy.governor == options.governor else options.governor
    kept = options.governor == UNCHANGED
    governor = policy.governor if kept else options.governor
    held = policy.is_self_governed and governor == "performance"
    preference = _preference(policy, options, held, host)
    if preference and held:
        yield preference
    if not kept:
        yield Step("governor", knob, Override(wanted))
    if preference and not held:
        yield preference
    if options.min_freq is not None:
        frequency = str(_frequency(policy, options.min_freq, bool(options.boost)))
        yield Step("governor", Frequency(policy.file("scaling_min_freq")), Override(frequency))


def _preference(policy: Policy, options: Options, held: bool, host: Host) -> Step | None:
    wanted = options.energy_performance_preference
    if held and wanted not in (None, "performance"):
        raise HookError(
            f"{policy.driver} allows only the energy_performance_preference "
            f"performance while the governor is performance, so not {wanted!r}",
            'set governor = "powersave" in [governor]',
        )
    if held and policy.preferences and options.governor != UNCHANGED:
        wanted = "performance"
    if wanted is None:
        return None
    if wanted not in policy.preferences:
        there = ", ".join(policy.preferences)
        raise HookError(
            f"{policy.name} ({policy.driver}) has no energy_performance_preference {wanted!r}",
            f"there are: {there}" if there else "remove it from [governor]",
        )
    knob = EnergyPreference(policy.file("energy_performance_preference"))
    is_asked = options.energy_performance_preference is not None
    required = is_asked or host.maybe(knob.path) is not None
    return Step("governor", knob, Override(wanted), required=required)


def _frequency(policy: Policy, wanted: int, boosted: bool) -> int:
    """What scaling_min_freq, in kHz, shows after `wanted` was written: the kernel rounds up to the
    next frequency of the CPU. While boost is still off, nothing shows how high it will go."""
    if not policy.lowest <= wanted or (wanted > policy.highest and not boosted):
        raise HookError(
            f"min_freq = {wanted} (kHz) is not a frequency that {policy.name} has",
            f"they go from {policy.lowest} to {policy.highest}",
        )
    return next((one for one in policy.frequencies if one >= wanted), wanted)


def _latency_steps(longest: int, cpus: CpuSet, host: Host) -> Iterator[Step]:
    """A limit for each CPU alone: /dev/cpu_dma_latency would keep all of the host awake, and only
    for as long as a program has it open.

    The kernel's file has "n/a" for the strictest limit of 0, as 0 stands for none there; see
    drivers/base/power/sysfs.c.
    """
    for cpu in sorted(cpus):
        path = f"{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us"
        if not host.exists(path):
            raise HookError(
                f"CPU {cpu} has no limit for its idle states ({path} is not there)",
                "remove max_exit_latency from [governor], or boot a kernel with CONFIG_PM",
            )
        yield Step("governor", File(path), Override(str(longest or "n/a")))
