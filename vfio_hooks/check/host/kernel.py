"""The kernel's own housekeeping and protections, by its parameters and sysctls."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot, processor

_PARAMETERS = "https://docs.kernel.org/admin-guide/kernel-parameters.html"
_SYSCTL = "https://docs.kernel.org/admin-guide/sysctl/kernel.html"
_STATIC = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")


@rule(
    "mitigations-off",
    "host",
    "warning",
    why="mitigations=off makes system calls a little cheaper, but lets a program read other "
    "programs' data, and a guest the host's data, from the caches.",
    source="https://docs.kernel.org/admin-guide/hw-vuln/index.html; guide: CPU mode, "
    "which keeps them on",
)
def mitigations(patient: Patient) -> Iterator[Seen]:
    if "off" in boot.values(patient.host, "mitigations")[-1:]:
        yield Seen(
            "the mitigations of the processor's vulnerabilities are off",
            "unless host and guest run only code that you trust, not even a browser's, remove: "
            "mitigations=off",
        )


@rule(
    "cpus-isolated-at-boot",
    "host",
    "hint",
    why="These parameters take CPUs away from the host even while no VM runs. The hook takes "
    "them only while the VM runs.",
    source=_PARAMETERS,
)
def static(patient: Patient) -> Iterator[Seen]:
    given = [f"{name}={value}" for name, value in boot.parameters(patient.host) if name in _STATIC]
    if given:
        yield Seen(
            f"CPUs are set aside on the kernel's command line: {' '.join(given)}",
            "if the host could use them while the VM is off, remove that, and add to vm.toml: "
            "[cpus] and [irqs]",
        )


@rule(
    "split-locks-slowed",
    "host",
    "hint",
    why="A program in the guest that locks memory across two cache lines, as some games do, has "
    "to wait 10 ms each time.",
    source=f"{_SYSCTL}, split_lock_mitigate",
    sure="possible",
)
def split_locks(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    # The sysctl is there on every PC, the feature only on some processors.
    detects = "split_lock_detect" in processor.flags(host)
    if detects and host.maybe("/proc/sys/kernel/split_lock_mitigate") == "1":
        yield Seen(
            "the kernel slows split locks down",
            "if the kernel log has 'split lock' while the VM runs, in vm.toml:\n"
            '[[write]]\npath = "kernel.split_lock_mitigate"\nvalue = 0',
        )


RULES = (mitigations, static, split_locks)
