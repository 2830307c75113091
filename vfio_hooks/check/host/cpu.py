"""How fast the processors run, and which clock the host uses."""

from collections.abc import Iterator

from vfio_hooks.check.host.tables import SLOW_GOVERNORS
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot, cpufreq, processor
from vfio_hooks.plural import numbered, verb

_CPUFREQ = "https://docs.kernel.org/admin-guide/pm/cpufreq.html"
_CLOCK = "/sys/devices/system/clocksource/clocksource0"
_VIRTUAL_CLOCKS = ("kvm-clock", "hyperv_clocksource_tsc_page", "xen")


@rule(
    "cpufreq-driver-missing",
    "host",
    "hint",
    why="Without a frequency driver nothing can ask for full speed: neither [governor] nor the "
    "guest, which never sees the real frequency.",
    source=f"{_CPUFREQ}; guide: Start VM script",
    sure="likely",
)
def no_driver(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    folder = "/sys/devices/system/cpu"
    # Until Linux 4.3 each CPU had a folder of its own instead.
    has = host.exists(f"{folder}/cpu0/cpufreq") or cpufreq.policies(host)
    if host.exists(f"{folder}/cpufreq") and not has:
        yield Seen(
            "no CPU has a frequency policy",
            "leave the frequency to the OS in the firmware's setup (CPPC, Speed Shift, "
            "P-states), or: modprobe acpi-cpufreq",
        )


@rule(
    "cpufreq-driver-old",
    "host",
    "hint",
    why="The processor can choose its frequency by itself, faster than the current driver does.",
    source="https://docs.kernel.org/admin-guide/pm/amd-pstate.html and intel_pstate.html",
    sure="likely",
)
def old_driver(patient: Patient) -> Iterator[Seen]:
    flags = processor.flags(patient.host)
    drivers = {policy.driver for policy in cpufreq.policies(patient.host)}
    if "acpi-cpufreq" not in drivers:
        return
    if "cppc" in flags:
        yield Seen(
            "the frequency driver is acpi-cpufreq, although the processor has CPPC",
            "add to the kernel's command line: amd_pstate=active\n"
            "and switch CPPC on in the firmware's setup",
        )
    elif "hwp" in flags:
        yield Seen(
            "the frequency driver is acpi-cpufreq, although the processor has HWP (Speed Shift)",
            "remove intel_pstate=disable from the kernel's command line",
        )


@rule(
    "governor-slow",
    "host",
    "hint",
    why="The guest cannot raise the frequency of its CPUs, and the host's governor sees the "
    "guest's load late or never.",
    source=f"{_CPUFREQ}; guide: Start VM script",
)
def slow(patient: Patient) -> Iterator[Seen]:
    # The rule "vm-tables" covers a VM's own CPUs.
    if patient.guest is not None:
        return
    found: dict[tuple[str, str], set[int]] = {}
    for policy in cpufreq.policies(patient.host):
        # Its "powersave" is the usual one, in which the processor goes by load.
        if policy.governor in SLOW_GOVERNORS and not policy.is_self_governed:
            found.setdefault((policy.governor, policy.driver), set()).update(policy.cpus)
    for (governor, driver), cpus in found.items():
        yield Seen(
            f"{numbered('CPU', cpus)} {verb(len(cpus), 'has', 'have')} the governor {governor} "
            f"({driver})",
            'in vm.toml, below [governor]: governor = "performance"',
        )


@rule(
    "clock-not-tsc",
    "host",
    "warning",
    why="Reading any clock other than the TSC takes microseconds, on the host and in its guests. "
    "A host that does not use its TSC cannot give guests a good one.",
    source="https://docs.kernel.org/virt/kvm/x86/timekeeping.html",
)
def clock(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    current = host.maybe(f"{_CLOCK}/current_clocksource")
    if current in (None, "", "tsc", *_VIRTUAL_CLOCKS) or not processor.flags(host):
        return
    asked = [value for value in boot.values(host, "clocksource") if value != "tsc"]
    do = "journalctl -k -g clocksource shows why; newer firmware may fix it"
    if asked:
        do = f"remove clocksource={asked[-1]} from the kernel's command line"
    elif "tsc" in (host.maybe(f"{_CLOCK}/available_clocksource") or "").split():
        do = f"echo tsc > {_CLOCK}/current_clocksource"
    yield Seen(f"the host's clock is {current}, not tsc", do)


RULES = (no_driver, old_driver, slow, clock)
