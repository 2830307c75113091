"""KVM: whether it is available, and its parameters.

https://docs.kernel.org/admin-guide/kernel-parameters.html, kvm.*, kvm-amd.* and kvm-intel.*
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import Host, boot, processor
from vfio_hooks.host.modules import is_loaded

_SOURCE = "https://docs.kernel.org/admin-guide/kernel-parameters.html"
_MODULES = ("kvm_amd", "kvm_intel")


@rule(
    "kvm-off",
    "host",
    "error",
    why="Without KVM a guest is emulated, which is ten to a hundred times slower.",
    source="https://docs.kernel.org/virt/kvm/index.html",
)
def off(patient: Patient) -> Iterator[Seen]:
    host, guest = patient.host, patient.guest
    if guest and guest.xml.get("type") != "kvm":
        return
    if host.names("/sys/module") and not any(is_loaded(host, name) for name in _MODULES):
        flags = processor.flags(host)
        module = "kvm_amd" if processor.vendor(host) == processor.AMD else "kvm_intel"
        yield Seen(
            "neither kvm_intel nor kvm_amd is loaded",
            f"modprobe {module}"
            if flags & {"svm", "vmx"}
            else "switch SVM or VT-x on in the firmware's setup; if this host is itself a VM, "
            "allow nested virtualisation there",
        )


@rule(
    "kvm-paging-off",
    "host",
    "error",
    why="Without nested paging (EPT, NPT) KVM has to track every change of the guest's page "
    "tables.",
    source=_SOURCE,
)
def paging(patient: Patient) -> Iterator[Seen]:
    for module, name in (("kvm_intel", "ept"), ("kvm_amd", "npt")):
        if boot.module_parameter(patient.host, module, name) in ("N", "0"):
            yield Seen(f"{module} runs without {name}", _instead(patient.host, module, name, "1"))


@rule(
    "kvm-msrs-logged",
    "host",
    "hint",
    why="Each time that the guest reads an unknown register, the kernel logs a line: with some "
    "games thousands per second.",
    source=f"{_SOURCE}, kvm.report_ignored_msrs",
)
def logged(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    ignored, told = (
        boot.module_parameter(host, "kvm", name) for name in ("ignore_msrs", "report_ignored_msrs")
    )
    if (ignored, told) == ("Y", "Y"):
        yield Seen(
            "ignore_msrs is on, and every unknown register is logged",
            _instead(host, "kvm", "report_ignored_msrs", "0"),
        )


@rule(
    "kvm-avic-off",
    "host",
    "hint",
    why="With AVIC the processor delivers interrupts to a running vCPU without leaving the "
    "guest. It does not work with every setting of a guest; KVM then leaves it off.",
    source=f"{_SOURCE}, kvm-amd.avic",
    sure="possible",
)
def avic(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    off = boot.module_parameter(host, "kvm_amd", "avic") in ("N", "0")
    if off and "avic" in processor.flags(host):
        yield Seen(
            "the processor has AVIC, but kvm_amd does not use it", _conf("kvm_amd", "avic", "1")
        )


@rule(
    "kvm-nested-off",
    "host",
    "warning",
    why="The XML gives the guest what it needs to run virtual machines itself (Hyper-V, WSL 2), "
    "but KVM does not allow that.",
    source=f"{_SOURCE}, kvm-intel.nested and kvm-amd.nested",
)
def nested(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    wanted = guest is not None and (
        guest.xml.find("features/hyperv/evmcs[@state='on']") is not None
        or any(
            feature.get("name") in ("vmx", "svm")
            and feature.get("policy", "require") in ("require", "force")
            for feature in guest.xml.iterfind("cpu/feature")
        )
    )
    for module in _MODULES if wanted else ():
        if boot.module_parameter(patient.host, module, "nested") in ("N", "0"):
            yield Seen(
                f"the domain asks for nested virtualisation, but {module} has it off",
                _conf(module, "nested", "1"),
            )


@rule(
    "kvm-halt-poll-off",
    "host",
    "hint",
    why="By default KVM waits a moment for the next interrupt before it lets an idle vCPU sleep, "
    "which makes waking up cheaper. Leave it off if power matters more than latency.",
    source="https://docs.kernel.org/virt/kvm/halt-polling.html",
)
def halt_poll(patient: Patient) -> Iterator[Seen]:
    if boot.module_parameter(patient.host, "kvm", "halt_poll_ns") == "0":
        yield Seen(
            "KVM does not poll before a vCPU sleeps (halt_poll_ns=0)",
            _instead(patient.host, "kvm", "halt_poll_ns", "200000"),
        )


def _instead(host: Host, module: str, name: str, value: str) -> str:
    """Where the current value is set, and what should be there instead."""
    for option, given, place in boot.module_options(host, module):
        if option == name:
            return f"in {place}: {module} {name}={value} instead of {given}"
    return _conf(module, name, value)


def _conf(module: str, name: str, value: str) -> str:
    return f"in /etc/modprobe.d/kvm.conf: options {module} {name}={value}; then reboot"


RULES = (off, paging, nested, logged, avic, halt_poll)
