"""Each rule about the host, on a host with and one without what it looks for."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.patient import PINNED, Tree, function, grow, patient, win11
from tests.telling import compare, compare_names, named, told
from vfio_hooks.check import Finding, examine, rules
from vfio_hooks.plugins import BUILT_IN

GPU, AUDIO, OTHER = "0000:04:00.0", "0000:04:00.1", "0000:05:00.0"
DISPLAY, SOUND, NET = "0x030000", "0x040300", "0x020000"
CARD = function(GPU, DISPLAY, "amdgpu", "7")
CARDS = {**CARD, **function(AUDIO, SOUND, "snd_hda_intel", "7", "1002:ab28")}
CARD_IN_1 = function(GPU, DISPLAY, "vfio-pci", "1")
RESERVED = "sys/kernel/iommu_groups/1/reserved_regions"
RELAXABLE = "0x7d000000 0x7dffffff direct-relaxable\n0xfee00000 0xfeefffff msi"
RMRR = f"{RELAXABLE}\n0x9d000000 0x9dffffff direct"
MIXED = {**CARD, **function(OTHER, NET, "e1000e", "7", "8086:10d3")}
STUB = {**CARD, **function(OTHER, NET, "pci-stub", "7", "8086:10d3")}
GEFORCE = {**function(GPU, DISPLAY, "nvidia", ids="10de:2204"), "sys/module/nvidia_drm/": ""}
OTHERS_GEFORCE = function(OTHER, DISPLAY, "nvidia", ids="10de:2206")
CPUS = {"sys/devices/system/cpu/online": "0-3", "proc/irq/9/smp_affinity": "f"}
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm avic cppc"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx hwp"
SPLIT = {"proc/cpuinfo": f"{INTEL} split_lock_detect"}
PLAIN = "           CPU0\n  9:   1   PCI-MSI 524288-edge nvme0q0"
REMAPPED = "           CPU0\n  9:   1   IR-PCI-MSI 524288-edge nvme0q0"
MODULE = "sys/module"
UNSAFE = f"{MODULE}/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
CLOCK = "sys/devices/system/clocksource/clocksource0"
HYPERV = f"<features><hyperv mode='custom'/></features>{PINNED}"
NESTED = "<features><hyperv><evmcs state='on'/></hyperv></features>"
ARC = "name type data\nc_max 4 {}"
MEMORY = {"proc/meminfo": "MemTotal: 16777216 kB"}
GIB = 1 << 30
WIDE = "0x000000000014220c"


def policy(driver: str, governor: str, governors: str = "performance schedutil") -> Tree:
    folder = "sys/devices/system/cpu/cpufreq/policy2"
    return {
        f"{folder}/scaling_governor": governor,
        f"{folder}/scaling_available_governors": governors,
        f"{folder}/scaling_driver": driver,
        f"{folder}/related_cpus": "2 3",
        f"{folder}/affected_cpus": "2 3",
    }


SYSTEM = "sys/fs/cgroup/system.slice"
V1_SYSTEM = "sys/fs/cgroup/systemd/system.slice"
USER = "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"


def service(name: str, folder: str = SYSTEM) -> Tree:
    """A service that runs has a control group."""
    return {f"{folder}/{name}.service/": ""}


def bar(start: int, size: int) -> Tree:
    lines = [f"{start:#018x} {start + size - 1:#018x} {WIDE}", f"{0:#018x} {0:#018x} {0:#018x}"]
    return {**CARD, f"sys/bus/pci/devices/{GPU}/resource": "\n".join(lines)}


HUGE = "<memoryBacking><hugepages><page size='{}'/></hugepages></memoryBacking>"


def hugepages(count: int, free: int, size: int = 2048) -> Tree:
    folder = f"sys/kernel/mm/hugepages/hugepages-{size}kB"
    return {f"{folder}/nr_hugepages": str(count), f"{folder}/free_hugepages": str(free)}


RESIZE = f"sys/bus/pci/devices/{GPU}/resource0_resize"
# A line of Debian's nvidia-kernel-support.
INSTALL = {"etc/modprobe.d/nvidia.conf": "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS"}
IDS = {"etc/modprobe.d/vfio.conf": "options vfio-pci ids=8086:10d3,1002:73bf"}
Case = tuple[str, Tree, str | None, str]
"""A rule's name, the host, a domain's XML and the tables of its vm.toml."""


def case(name: str, tree: Tree, xml: str | None = None, tables: str = "") -> Case:
    return name, tree, xml, tables


GIVEN = win11(passed=(GPU,))
FOUND = [
    case("iommu-off", {**function(GPU, DISPLAY), "sys/module/": ""}),
    case("iommu-off", {**function(GPU, DISPLAY), "sys/kernel/iommu_groups/": ""}),
    case("iommu-translates-host", {**CARD, "sys/kernel/iommu_groups/7/type": "DMA-FQ"}),
    case("iommu-parameter-without-effect", {"proc/cmdline": "amd_iommu=on", "proc/cpuinfo": AMD}),
    case("iommu-parameter-without-effect", {"proc/cmdline": "intel_iommu=on", "proc/cpuinfo": AMD}),
    case("interrupt-remapping-off", {**CARD, "proc/interrupts": PLAIN}),
    case("unsafe-interrupts", {**CARD, "proc/interrupts": REMAPPED, UNSAFE: "Y"}),
    case("group-shared", MIXED, win11(passed=(GPU,))),
    case("group-shared", MIXED, win11(passed=(GPU,)), "pci"),
    case("group-direct-mapping", {**CARD_IN_1, RESERVED: RMRR}, win11(passed=(GPU,))),
    case("gpu-group-mixed", MIXED),
    case("acs-override", {"proc/cmdline": "quiet pcie_acs_override=downstream,multifunction"}),
    case(
        "vfio-missing",
        {"proc/sys/kernel/osrelease": "6.12", "lib/modules/6.12/modules.dep": "kernel/a.ko:"},
    ),
    case("vfio-too-late", {**CARD, **IDS}),
    case("vfio-too-late", {**CARD, "proc/cmdline": "vfio-pci.ids=1002:73BF"}),
    case("vfio-ids-replaced", {**IDS, "proc/cmdline": "vfio-pci.ids=1002:73bf,10de:2206"}),
    case("vfio-ids-replaced", {**IDS, "etc/modprobe.d/zz.conf": "options vfio_pci ids=10de:2206"}),
    case(
        "vfio-ids-replaced",
        {
            "etc/modprobe.d/vfio.conf": "options vfio-pci ids=1002:73bf:1458:2333",
            "etc/modprobe.d/zz.conf": "options vfio-pci ids=10de:2206:1043:87B5",
        },
    ),
    case("vfio-ids-ambiguous", {**CARD, **function(OTHER, DISPLAY), **IDS}),
    case("install-line-off", {**INSTALL, "etc/modprobe.d/v.conf": "softdep nvidia pre: vfio-pci"}),
    case(
        "install-line-off", {**INSTALL, "etc/modprobe.d/v.conf": "softdep nv* pre: i915 vfio_pci"}
    ),
    case("blacklist-without-effect", {"proc/cmdline": "modprobe.blacklist=nouveau,snd-hda-intel"}),
    case("nvidia-holds-card", GEFORCE, win11(passed=(GPU,)), "pci"),
    case("nvidia-holds-card", {**GEFORCE, **OTHERS_GEFORCE}, win11(passed=(GPU,)), "session"),
    case(
        "vfio-virqfd-gone",
        {"proc/sys/kernel/osrelease": "6.12.1", "etc/modules": "vfio\nvfio_virqfd # both"},
    ),
    case("sriov-max-vfs", {"etc/modprobe.d/ixgbe.conf": "options ixgbe max_vfs=2"}),
    case("legacy-boot", {"sys/firmware/acpi/": ""}),
    case(
        "boot-display-passed",
        {**CARD, f"sys/bus/pci/devices/{GPU}/boot_vga": "1"},
        win11(passed=(GPU,)),
    ),
    case(
        "efifb-off-without-effect",
        {
            "proc/cmdline": "video=efifb:off",
            "sys/bus/platform/devices/simple-framebuffer.0/uevent": "",
        },
    ),
    case("above-4g-off", bar(0xC0000000, 256 << 20)),
    case("rebar-small", {**bar(16 * GIB, 256 << 20), RESIZE: "0000000000007f00"}),
    case("cpufreq-driver-missing", {"sys/devices/system/cpu/cpufreq/": ""}),
    case("cpufreq-driver-old", {**policy("acpi-cpufreq", "schedutil"), "proc/cpuinfo": AMD}),
    case("cpufreq-driver-old", {**policy("acpi-cpufreq", "schedutil"), "proc/cpuinfo": INTEL}),
    case("governor-slow", policy("acpi-cpufreq", "powersave")),
    case("governor-rivals", service("power-profiles-daemon"), win11(), "governor"),
    case("governor-rivals", service("tuned"), win11(), "governor service.unit=cups"),
    case("governor-rivals", service("tuned"), win11(), "governor.power_profile=performance"),
    case("governor-rivals", service("auto-cpufreq", V1_SYSTEM), win11(), "governor"),
    case("governor-rivals", service("snap.auto-cpufreq.service"), win11(), "governor"),
    case("governor-rivals", service("gamemoded", USER), win11(), "governor"),
    case("governor-rivals", service("gamemoded", f"{USER}/app.slice"), win11(), "governor"),
    case("governor-rivals", {"run/tlp/last_pwr": "0"}, win11(), "governor"),
    case("clock-not-tsc", {f"{CLOCK}/current_clocksource": "hpet", "proc/cpuinfo": AMD}),
    case("mitigations-off", {"proc/cmdline": "quiet mitigations=off"}),
    case("cpus-isolated-at-boot", {"proc/cmdline": "isolcpus=2-3 nohz_full=2-3"}),
    case("split-locks-slowed", {**SPLIT, "proc/sys/kernel/split_lock_mitigate": "1"}),
    case("cgroup-no-cpusets", {"sys/fs/cgroup/cgroup.controllers": "cpu io memory"}),
    case("cgroup-v1", {"sys/fs/cgroup/cpuset/cpuset.cpus": "0-3"}),
    case("zfs-arc-large", {**MEMORY, "proc/spl/kstat/zfs/arcstats": ARC.format(9 * GIB)}, win11()),
    case("vm-tables", CPUS, GIVEN, "cpus"),
    case("vm-tables", CPUS, GIVEN, "irqs"),
    case("vm-tables", {**CPUS, "sys/devices/system/cpu/isolated": "1-2"}, GIVEN, "irqs"),
    case("vm-tables", policy("acpi-cpufreq", "schedutil", "performance schedutil"), GIVEN),
    case("vm-tables", policy("intel_pstate", "powersave", "performance powersave"), GIVEN),
    case("vm-tables", {"proc/sys/kernel/numa_balancing": "1"}, GIVEN),
    case("vm-tables", {"sys/kernel/mm/ksm/run": "1"}, GIVEN),
    case("ksm-on", {"sys/kernel/mm/ksm/run": "1"}),
    case("hugepages-idle", hugepages(64, 64)),
    case("hugepages-idle", hugepages(64, 64), win11(HUGE.format(1 << 20))),
    case("thp-never", {"sys/kernel/mm/transparent_hugepage/enabled": "always [never]"}, win11()),
    case("kvm-off", {"sys/module/ext4/": "", "proc/cpuinfo": AMD}),
    case("kvm-paging-off", {f"{MODULE}/kvm_intel/parameters/ept": "N"}),
    case(
        "kvm-msrs-logged",
        {
            f"{MODULE}/kvm/parameters/ignore_msrs": "Y",
            f"{MODULE}/kvm/parameters/report_ignored_msrs": "Y",
        },
    ),
    case("kvm-avic-off", {f"{MODULE}/kvm_amd/parameters/avic": "N", "proc/cpuinfo": AMD}),
    case("kvm-nested-off", {f"{MODULE}/kvm_intel/parameters/nested": "N"}, win11(NESTED)),
    case("kvm-halt-poll-off", {f"{MODULE}/kvm/parameters/halt_poll_ns": "0"}),
]
SILENT = [
    case("iommu-off", CARD),
    case("iommu-off", function(GPU, DISPLAY)),
    case("iommu-translates-host", {**CARD, "sys/kernel/iommu_groups/7/type": "identity"}),
    case("iommu-parameter-without-effect", {"proc/cmdline": "iommu=pt intel_iommu=on"}),
    case(
        # An emulated machine may have any pair.
        "iommu-parameter-without-effect",
        {"proc/cmdline": "intel_iommu=on", "proc/cpuinfo": AMD, "sys/class/iommu/dmar0/uevent": ""},
    ),
    case("interrupt-remapping-off", {**CARD, "proc/interrupts": REMAPPED}),
    case("interrupt-remapping-off", {**CARD, "proc/interrupts": PLAIN, UNSAFE: "Y"}),
    case("unsafe-interrupts", {**CARD, "proc/interrupts": REMAPPED, UNSAFE: "N"}),
    case("unsafe-interrupts", {**CARD, "proc/interrupts": PLAIN, UNSAFE: "Y"}),
    case("group-shared", MIXED, win11(passed=(GPU, OTHER))),
    case("group-shared", MIXED, win11(passed=(GPU,)), "pci.group=bind"),
    case("group-shared", STUB, win11(passed=(GPU,))),
    case("group-direct-mapping", {**CARD_IN_1, RESERVED: RELAXABLE}, win11(passed=(GPU,))),
    case("group-direct-mapping", {**CARD_IN_1, RESERVED: RMRR}),
    case("gpu-group-mixed", CARDS),
    case("acs-override", {"proc/cmdline": "quiet"}),
    case(
        "vfio-missing",
        {
            "proc/sys/kernel/osrelease": "6.12",
            "lib/modules/6.12/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz:",
        },
    ),
    case("vfio-too-late", {**function(GPU, DISPLAY, "vfio-pci"), **IDS}),
    # Its VFs would go with it.
    case("vfio-too-late", {**CARD, **IDS, f"sys/bus/pci/devices/{GPU}/sriov_numvfs": "7"}),
    # There is no other card to choose.
    case(
        "boot-display-passed",
        {**CARD, f"sys/bus/pci/devices/{GPU}/boot_vga": "1"},
        win11(passed=(GPU,)),
        "session",
    ),
    # What counts has no card that another driver has, whatever an earlier line says.
    case("vfio-too-late", {**CARD, **IDS, "proc/cmdline": "vfio-pci.ids=8086:10d3"}),
    case("vfio-ids-replaced", {**IDS, "proc/cmdline": "vfio-pci.ids=1002:73BF,8086:10d3"}),
    case(
        "vfio-ids-replaced",
        {
            "etc/modprobe.d/vfio.conf": "options vfio-pci ids=1002:73bf:1458:2333",
            "proc/cmdline": "vfio-pci.ids=1002:73bf",
        },
    ),
    case("vfio-ids-replaced", {**IDS, "etc/modprobe.d/zz.conf": "options vfio-pci disable_vga=1"}),
    case("vfio-ids-ambiguous", {**CARD, **function(AUDIO, SOUND), **IDS}),
    case("install-line-off", {"etc/modprobe.d/v.conf": "softdep nvidia pre: vfio-pci"}),
    case(
        "install-line-off", {**INSTALL, "etc/modprobe.d/v.conf": "softdep nvidia post: nvidia-uvm"}
    ),
    case(
        "install-line-off", {**INSTALL, "etc/modprobe.d/v.conf": "softdep nvidia-drm pre: vfio-pci"}
    ),
    case("blacklist-without-effect", {"proc/cmdline": "modprobe.blacklist=nouveau,snd_hda_intel"}),
    case("blacklist-without-effect", {"etc/modprobe.d/v.conf": "blacklist snd-hda-intel"}),
    case("nvidia-holds-card", GEFORCE, win11(passed=(GPU,)), "session"),
    case("nvidia-holds-card", GEFORCE, win11(passed=(AUDIO,))),
    case("nvidia-holds-card", function(GPU, DISPLAY, "nvidia"), win11(passed=(GPU,))),
    case(
        "nvidia-holds-card",
        {**GEFORCE, **function(GPU, DISPLAY, "vfio-pci"), **OTHERS_GEFORCE},
        win11(passed=(GPU,)),
    ),
    case("vfio-virqfd-gone", {"proc/sys/kernel/osrelease": "6.1.0", "etc/modules": "vfio_virqfd"}),
    case("sriov-max-vfs", {"etc/modprobe.d/ixgbe.conf": "# options ixgbe max_vfs=2"}),
    case("legacy-boot", {"sys/firmware/acpi/": "", "sys/firmware/efi/": ""}),
    case(
        "boot-display-passed",
        {**CARD, f"sys/bus/pci/devices/{GPU}/boot_vga": "0"},
        win11(passed=(GPU,)),
    ),
    case("efifb-off-without-effect", {"proc/cmdline": "video=efifb:off"}),
    case("above-4g-off", bar(16 * GIB, 256 << 20)),
    case("above-4g-off", bar(0xC0000000, 16 << 20)),
    case("rebar-small", {**bar(16 * GIB, 16 * GIB), RESIZE: "0000000000007f00"}),
    case("cpufreq-driver-missing", policy("acpi-cpufreq", "schedutil")),
    case("cpufreq-driver-missing", CPUS),
    case("cpufreq-driver-old", {**policy("amd-pstate-epp", "powersave"), "proc/cpuinfo": AMD}),
    case("governor-slow", policy("intel_pstate", "powersave")),
    case("governor-slow", policy("acpi-cpufreq", "powersave"), win11(), "governor"),
    # Nothing of [governor] is to be kept.
    case("governor-rivals", service("tuned"), win11(), "cpus"),
    case("governor-rivals", service("tuned")),
    case("governor-rivals", service("irqbalance"), win11(), "governor"),
    case("governor-rivals", {"run/tlp/": ""}, win11(), "governor"),
    case("governor-rivals", service("tuned"), win11(), "governor service.unit=tuned"),
    case(
        "governor-rivals",
        {**service("tuned"), **service("tuned-ppd")},
        win11(),
        "governor.power_profile=performance",
    ),
    case("clock-not-tsc", {f"{CLOCK}/current_clocksource": "tsc", "proc/cpuinfo": AMD}),
    case("clock-not-tsc", {f"{CLOCK}/current_clocksource": "kvm-clock", "proc/cpuinfo": AMD}),
    case("mitigations-off", {"proc/cmdline": "mitigations=off mitigations=auto"}),
    case("cpus-isolated-at-boot", {"proc/cmdline": "quiet"}),
    case("split-locks-slowed", {**SPLIT, "proc/sys/kernel/split_lock_mitigate": "0"}),
    case("split-locks-slowed", {"proc/cpuinfo": INTEL, "proc/sys/kernel/split_lock_mitigate": "1"}),
    case("cgroup-no-cpusets", {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io"}),
    case("cgroup-v1", {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io"}),
    case("zfs-arc-large", {**MEMORY, "proc/spl/kstat/zfs/arcstats": ARC.format(4 * GIB)}, win11()),
    case("vm-tables", CPUS, GIVEN, "cpus irqs"),
    case("vm-tables", CPUS, win11("", (GPU,))),
    case("vm-tables", CPUS, win11()),
    case("vm-tables", {**CPUS, "sys/devices/system/cpu/isolated": "2-3"}, GIVEN, "irqs"),
    case("vm-tables", policy("acpi-cpufreq", "schedutil"), GIVEN, "governor"),
    case("vm-tables", policy("acpi-cpufreq", "performance"), GIVEN),
    case("vm-tables", {"proc/sys/kernel/numa_balancing": "1"}, GIVEN, "memory"),
    case("vm-tables", {"proc/sys/kernel/numa_balancing": "0"}, GIVEN),
    case("ksm-on", {"sys/kernel/mm/ksm/run": "0"}),
    case("ksm-on", {"sys/kernel/mm/ksm/run": "1"}, win11()),
    case("hugepages-idle", hugepages(64, 3)),
    case("hugepages-idle", hugepages(0, 0)),
    case("hugepages-idle", hugepages(64, 64), win11(HUGE.format(2048))),
    case("hugepages-idle", hugepages(8, 8, 1 << 20)),
    case("thp-never", {"sys/kernel/mm/transparent_hugepage/enabled": "[always] never"}, win11()),
    case("kvm-off", {"sys/module/kvm_amd/": ""}),
    case("kvm-off", {"sys/module/ext4/": ""}, win11(kind="qemu")),
    case("kvm-paging-off", {f"{MODULE}/kvm_intel/parameters/ept": "Y"}),
    case(
        "kvm-msrs-logged",
        {
            f"{MODULE}/kvm/parameters/ignore_msrs": "Y",
            f"{MODULE}/kvm/parameters/report_ignored_msrs": "N",
        },
    ),
    case("kvm-avic-off", {f"{MODULE}/kvm_amd/parameters/avic": "1", "proc/cpuinfo": AMD}),
    case("kvm-avic-off", {f"{MODULE}/kvm_amd/parameters/avic": "N", "proc/cpuinfo": INTEL}),
    case("kvm-nested-off", {f"{MODULE}/kvm_intel/parameters/nested": "Y"}, win11(NESTED)),
    case("kvm-nested-off", {f"{MODULE}/kvm_intel/parameters/nested": "N"}, win11()),
    case("kvm-halt-poll-off", {f"{MODULE}/kvm/parameters/halt_poll_ns": "200000"}),
]
NAMES = {rule.name for rule in rules() if rule.area == "host"}


def look(root: Path, one: Case) -> list[Finding]:
    """What is found in a case, the hook left out: there is none."""
    _, tree, xml, tables = one
    found = examine(patient(grow(root, tree), xml, tables))
    for finding in found:
        assert set(re.findall(r"\[+([a-z]+)\]+", finding.seen.do)) <= set(BUILT_IN)
    return [one for one in found if one.rule.area == "host"]


CASES = named(FOUND, [one[0] for one in FOUND])


@pytest.mark.parametrize(("name", "one"), CASES, ids=[name for name, _ in CASES])
def test_found(tmp_path: Path, name: str, one: Case) -> None:
    found = [seen for seen in look(tmp_path, one) if seen.rule.name == one[0]]
    assert found
    assert not any("could not be looked at" in each.seen.text for each in found)
    compare("host", name, told(found, tmp_path))


@pytest.mark.parametrize("one", SILENT, ids=lambda one: one[0])
def test_silent(tmp_path: Path, one: Case) -> None:
    assert one[0] not in [found.rule.name for found in look(tmp_path, one)]


def test_another_slot_is_no_advice_for_one_card(tmp_path: Path) -> None:
    for name, tree, last in (
        ("one", CARDS, "Another slot does not help, because they are on the same card."),
        ("two", MIXED, "or put the card into another slot: vfio-hooks iommu shows all groups"),
    ):
        found = examine(patient(grow(tmp_path / name, tree), win11(passed=(GPU,))))
        (shared,) = (one.seen.do for one in found if one.rule.name == "group-shared")
        assert shared.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({}, "in vm.toml: [session]"),
        (function(OTHER, DISPLAY, "i915"), 'in vm.toml, below [session]: manager = "none"'),
        (OTHERS_GEFORCE, "in /etc/modprobe.d/vfio.conf: options vfio-pci ids=10de:2204"),
        (
            function(OTHER, DISPLAY, "nvidia", ids="10de:2204"),
            f"sudo driverctl --noprobe set-override {GPU} vfio-pci",
        ),
        # For another VM, from boot on.
        (function(OTHER, DISPLAY, "vfio-pci", ids="10de:2204"), "in vm.toml: [session]"),
    ],
)
def test_what_takes_a_card_off_nvidia_depends_on_the_others(
    tmp_path: Path, other: Tree, told: str
) -> None:
    found = examine(patient(grow(tmp_path, {**GEFORCE, **other}), win11(passed=(GPU,))))
    (seen,) = (one.seen for one in found if one.rule.name == "nvidia-holds-card")
    assert seen.do.splitlines()[0] == told


MODULES = {"proc/sys/kernel/osrelease": "6.12"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, ["in /etc/modprobe.d/vfio.conf: softdep amdgpu pre: vfio-pci"]),
        # It is there, but the initramfs is older.
        (
            {"etc/modprobe.d/a.conf": "softdep amdgpu pre: vfio_pci post: i915"},
            ["in /etc/modprobe.d/vfio.conf: softdep amdgpu pre: vfio-pci"],
        ),
        (
            {
                "etc/modprobe.d/vfio.conf": "softdep amdgpu pre: vfio-pci",
                "usr/lib/modprobe.d/amd.conf": "softdep amdgpu post: xe",
            },
            [
                "in /etc/modprobe.d/00-vfio.conf: softdep amdgpu pre: vfio-pci post: xe",
                "modprobe takes only the first softdep of a module: now softdep amdgpu post: xe, "
                "in /usr/lib/modprobe.d/amd.conf",
            ],
        ),
        (
            {"etc/modprobe.d/vfio.conf": "softdep amd* pre: xe\nsoftdep amdgpu pre: vfio-pci"},
            [
                "in /etc/modprobe.d/vfio.conf: softdep amdgpu pre: vfio-pci xe",
                "modprobe takes only the first softdep of a module: now softdep amdgpu pre: xe, "
                "in /etc/modprobe.d/vfio.conf",
            ],
        ),
        (
            {**MODULES, "lib/modules/6.12/modules.softdep": "# own\nsoftdep amdgpu pre: xe"},
            [
                "have the initramfs load vfio-pci ahead of amdgpu: a line in /etc/initramfs-tools/"
                "modules (too late if lsinitramfs shows amdgpu), MODULES= of /etc/mkinitcpio.conf "
                "or force_drivers= of dracut. modprobe takes only the first softdep of a module, "
                "and amdgpu itself has one"
            ],
        ),
        (
            {"etc/modprobe.d/amd.conf": "install amdgpu modprobe -i amdgpu-pro"},
            [
                "have the initramfs load vfio-pci ahead of amdgpu: a line in /etc/initramfs-tools/"
                "modules (too late if lsinitramfs shows amdgpu), MODULES= of /etc/mkinitcpio.conf "
                "or force_drivers= of dracut. A softdep of amdgpu would switch off the install "
                "line that loads it, in /etc/modprobe.d/amd.conf"
            ],
        ),
    ],
)
def test_vfio_pci_comes_first_by_the_softdep_that_counts(
    tmp_path: Path, files: Tree, told: list[str]
) -> None:
    found = examine(
        patient(grow(tmp_path, {**CARD, "proc/cmdline": "vfio-pci.ids=1002:73bf", **files}))
    )
    (seen,) = (one.seen for one in found if one.rule.name == "vfio-too-late")
    assert seen.do.splitlines()[:-1] == told


def test_a_softdep_is_for_a_drivers_module(tmp_path: Path) -> None:
    """The driver xhci_hcd is in the module xhci_pci."""
    usb = function(GPU, "0x0c0330", "xhci_hcd", ids="1022:149c")
    host = grow(tmp_path, {**usb, "proc/cmdline": "vfio-pci.ids=1022:149c"})
    driver = host / "sys/bus/pci/drivers/xhci_hcd"
    driver.mkdir(parents=True, exist_ok=True)
    (driver / "module").symlink_to("../../../../module/xhci_pci")
    (seen,) = (one.seen for one in examine(patient(host)) if one.rule.name == "vfio-too-late")
    assert seen.do.startswith("in /etc/modprobe.d/vfio.conf: softdep xhci_pci pre: vfio-pci\n")


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (service("tuned"), ['in vm.toml: [[service]] with unit = "tuned.service"']),
        # Then the desktop starts tuned again.
        (
            {**service("tuned"), **service("tuned-ppd")},
            [
                'in [governor] of vm.toml: power_profile = "performance", which is held while the '
                "VM runs"
            ],
        ),
        (
            {**service("tuned"), **service("snap.auto-cpufreq.service")},
            [
                'in vm.toml: [[service]] with unit = "tuned.service"',
                'in vm.toml: [[service]] with unit = "snap.auto-cpufreq.service.service"',
            ],
        ),
    ],
)
def test_what_keeps_others_off_the_governor(tmp_path: Path, tree: Tree, told: list[str]) -> None:
    found = examine(patient(grow(tmp_path, tree), win11(), "governor"))
    assert [one.seen.do for one in found if one.rule.name == "governor-rivals"] == told


def test_every_rule_has_both() -> None:
    # The log is this machine's, and so in tests/test_check_logs.py.
    assert {one[0] for one in FOUND} | {"kernel-said"} == NAMES
    assert {one[0] for one in SILENT} | {"kernel-said"} == NAMES
    compare_names("host", [name for name, _ in CASES])


GUIDE = {
    **CARDS,
    "proc/cmdline": "amd_iommu=on vfio_iommu_type1.allow_unsafe_interrupts=1 kvm.ignore_msrs=1 "
    "iommu=pt",
    "proc/cpuinfo": AMD.replace(" cppc", ""),
    "proc/interrupts": REMAPPED,
    "proc/meminfo": "MemTotal: 32768000 kB",
    "proc/sys/kernel/osrelease": "6.12.8-1-MANJARO",
    "proc/spl/kstat/zfs/arcstats": ARC.format(4 * GIB),
    "etc/mkinitcpio.conf": 'MODULES="amdgpu vfio_pci vfio vfio_iommu_type1 vfio_virqfd"',
    "etc/modprobe.d/ixgbe.conf": "options ixgbe max_vfs=2",
    "sys/firmware/acpi/": "",
    "sys/firmware/efi/": "",
    "sys/kernel/iommu_groups/7/type": "identity",
    f"sys/bus/pci/devices/{GPU}/boot_vga": "0",
    UNSAFE: "Y",
    f"{MODULE}/kvm/parameters/ignore_msrs": "Y",
    f"{MODULE}/kvm/parameters/report_ignored_msrs": "Y",
    f"{MODULE}/kvm_amd/parameters/npt": "1",
    **policy("acpi-cpufreq", "ondemand", "performance ondemand"),
}
"""The tuning guide's host, on today's kernel."""


def test_the_guides_host(tmp_path: Path) -> None:
    one = case("", GUIDE, win11(HYPERV, (GPU, AUDIO)), "pci cpus irqs memory")
    assert {found.rule.name for found in look(tmp_path, one)} == {
        # What it has that does nothing, or is not needed any more.
        *("iommu-parameter-without-effect", "unsafe-interrupts", "vfio-virqfd-gone"),
        *("sriov-max-vfs", "kvm-msrs-logged"),
        # What its script does, and this vm.toml does not.
        "vm-tables",
    }


def test_an_empty_host_has_no_findings(tmp_path: Path) -> None:
    assert look(tmp_path, case("", {}, win11(passed=(GPU,)))) == []


EVERYTHING = {name: text for one in (*SILENT, *FOUND) for name, text in one[1].items()}
FILES = sorted(name for name in EVERYTHING if not name.endswith("/"))
GARBAGE = st.sampled_from(
    ["", "\x00\xff", "-1", "99999999999999999999", "a b\nc: d\n", "0x", "→ /"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FILES), GARBAGE | st.none(), min_size=1, max_size=12))
def test_a_host_of_nonsense(changed: dict[str, str | None]) -> None:
    tree = dict(EVERYTHING)
    for name, text in changed.items():
        if text is None:
            del tree[name]
        else:
            tree[name] = text
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(folder), ("", tree, win11(HYPERV, (GPU, OTHER)), ""))
        assert all(one.seen.text for one in found)
