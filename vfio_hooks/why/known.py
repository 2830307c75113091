"""Lines in the logs of the kernel, QEMU and libvirt that users of passed-through devices meet.

Each has its meaning and what to do about it, and names the source that prints it. A meaning claims
no more than its line says. Both texts can use the groups of a pattern, such as `device`. Lines of
the last version that was examined are in tests/corpus/why.json.
"""

from vfio_hooks.host.pci import ADDRESS, SHORT
from vfio_hooks.record import record

_QEMU = "QEMU 10.0"
_LINUX = "Linux 6.12"
_LIBVIRT = "libvirt 11.3"
_DEVICE = rf"(?P<device>{ADDRESS})"
_SHORT = rf"(?P<device>{SHORT})"


@record
class Known:
    """A line that is recognised by a regular expression. `name` is stable, for programs. `boot`
    says that the line is a fault of the host even if no VM was started. `check` reports it as well,
    because it cannot see it in any other way."""

    name: str
    pattern: str
    meaning: str
    remedy: str
    source: str
    boot: bool = False


KNOWN = (
    Known(
        "reset-needs-group",
        rf"vfio: Cannot reset device {_DEVICE}, depends on group (?P<group>\d+) which is not owned",
        "A reset of {device} would also reset a function in IOMMU group {group}, which this VM "
        "does not have. So QEMU cannot reset the device in that way.",
        "pass the function in group {group} to the VM as well; vfio-hooks iommu shows it",
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "reset-needs-device",
        rf"vfio: Cannot reset device {_DEVICE}, depends on device (?P<other>\S+) which is not "
        "owned",
        "A reset of {device} would also reset {other}, which this VM does not have. So QEMU "
        "cannot reset the device in that way.",
        "pass {other} to the VM as well",
        f"{_QEMU}, hw/vfio/iommufd.c",
    ),
    Known(
        "no-reset",
        rf"vfio: Cannot reset device {_DEVICE}, no available reset mechanism",
        "The kernel has no way to reset {device}. The guest gets it as the last user left it.",
        "if the device does not work after a restart of the VM, suspend and resume the host, or "
        "reboot it; vfio-hooks check says whether a module such as vendor-reset may help",
        f"{_QEMU}, hw/vfio/pci.c",
    ),
    Known(
        "stuck-in-d3",
        r"vfio: Unable to power on device, stuck in (?P<state>D\d)",
        "The device does not leave the power state {state}, so the guest cannot use it.",
        "reboot the host; then, in vm.toml below [gpu]: d3cold = false",
        f"{_QEMU}, hw/vfio/pci.c",
    ),
    Known(
        "interrupt-pin",
        r"pci_irq_handler: Assertion .0 <= irq_num && irq_num < PCI_NUM_PINS. failed",
        "QEMU ended because a device shows an interrupt pin that does not exist. A passed device "
        "that no longer answers does so: whatever is read from it, all bits are set.",
        "reboot the host, or switch it off and on; the kernel's lines before that start may say "
        "why the device does not answer",
        f"{_QEMU}, hw/pci/pci.c",
    ),
    Known(
        "device-inaccessible",
        rf"{_DEVICE}: Unable to change power state from (?P<state>\S+) to \S+, device "
        "inaccessible",
        "{device} no longer answers: reads of its configuration space return nothing.",
        "reboot the host, or switch it off and on; then, in vm.toml below [gpu]: d3cold = false",
        f"{_LINUX}, drivers/pci/pci.c",
        boot=True,
    ),
    Known(
        "not-ready-after-resume",
        rf"{_DEVICE}: not ready (?P<time>\d+)ms after resume; giving up",
        "{device} did not wake up within {time} ms.",
        "reboot the host, or switch it off and on; then, in vm.toml below [gpu]: d3cold = false",
        f"{_LINUX}, drivers/pci/pci.c",
    ),
    Known(
        "reset-method-refused",
        rf"{_DEVICE}: (?:Unsupported|Invalid) reset method '(?P<method>[^']*)'",
        "The reset method {method} was asked for, but the kernel does not have it for {device}.",
        "vfio-hooks iommu shows which resets the card has; device_specific of AMD's cards needs "
        "the module vendor-reset, loaded beforehand and in a version that knows the card",
        f"{_LINUX}, drivers/pci/pci.c",
    ),
    Known(
        "one-to-one-mapping",
        rf"{_DEVICE}: Firmware has requested this device have a 1:1 IOMMU mapping",
        "The firmware keeps some of its own memory mapped for {device} (Intel calls this an "
        "RMRR). The "
        "kernel refuses to give such a device to a VM.",
        "look for a firmware setting that switches this off (on HPE servers: shared memory, or "
        "RMRR), or pass another device",
        f"{_LINUX}, drivers/iommu/iommu.c",
    ),
    Known(
        "bar-in-use",
        rf"{_DEVICE}: BAR (?P<bar>\d): can't reserve \[(?:mem|io) ",
        "Something else on the host uses this memory of {device}; often it is the framebuffer "
        "that the firmware set up.",
        "the lines below this range in /proc/iomem (read it with sudo) name the user; with [pci] "
        "in vm.toml the hook removes the firmware's framebuffer from it",
        f"{_LINUX}, drivers/pci/pci.c",
    ),
    Known(
        "region-in-use",
        rf"vfio_region_(?:read|write)\({_DEVICE}:region(?P<bar>\d).*: Device or resource busy",
        "The guest uses memory of {device} that something else on the host has reserved.",
        "the kernel's line about BAR {bar} at the same time has the range; /proc/iomem names its "
        "user",
        f"{_QEMU}, hw/vfio/helpers.c",
    ),
    Known(
        "group-not-viable",
        r"group (?P<group>\d+) is not viable",
        "IOMMU group {group} has a device that still has a driver of the host. A group can only "
        "be given to a VM as a whole.",
        "vfio-hooks iommu shows what is in the group; pass these devices as well, or in vm.toml "
        'below [pci]: group = "bind"',
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "device-not-in-group",
        r"error getting device from group (?P<group>\d+)",
        "The kernel does not hand out the device from IOMMU group {group}: it has no vfio "
        "driver, or its driver refused.",
        "the kernel's lines at the same time say why; vfio-hooks plan shows which driver it gets",
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "group-in-two-spaces",
        r"group (?P<group>\d+) used in multiple address spaces",
        "The guest has an IOMMU of its own, which keeps its devices apart. But functions of the "
        "host's IOMMU group {group} can only be passed together.",
        "remove <iommu> from the domain's XML, or pass only one function of that group",
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "viommu-without-caching",
        r"We need to set caching-mode=on for intel-iommu to enable device assignment",
        "The guest has an IOMMU of its own, which does not tell QEMU of its changes. Then QEMU "
        "cannot map the guest's memory for passed devices.",
        "in the domain's XML: <iommu model='intel'><driver caching_mode='on'/></iommu>",
        f"{_QEMU}, hw/i386/intel_iommu.c",
    ),
    Known(
        "group-busy",
        r"(?:failed to|Could not) open '?(?P<node>/dev/vfio/\d+)'?: Device or resource busy",
        "Another program has {node} open, most likely another VM.",
        "sudo fuser -v {node} names it",
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "node-refused",
        r"(?:[Ff]ailed to|[Cc]ould not) open '?(?P<node>/dev/[^\s':]+)'?: (?:Permission denied|"
        "Operation not permitted)",
        "QEMU may not open {node}.",
        "look for a line of AppArmor or SELinux at the same time; otherwise check "
        "cgroup_device_acl in /etc/libvirt/qemu.conf, and who owns the file",
        f"{_QEMU}, hw/vfio/container.c and block/file-posix.c",
    ),
    Known(
        "hugepages-left",
        r"can't open backing store (?P<node>/\S+/libvirt/qemu/\d+-\S+) for guest RAM: Permission "
        "denied",
        "{node} is left over from a start during which libvirt was ended. libvirt uses it again "
        "without giving QEMU access to it.",
        "start the VM again: the failed start has removed it",
        f"{_LIBVIRT}, qemu_process.c",
    ),
    Known(
        "shared-memory-refused",
        r"can't open backing store (?!/\S+/libvirt/qemu/\d)(?P<node>\S+) for guest RAM: "
        "(?:Permission denied|Operation not permitted)",
        "QEMU may not open {node}, which the domain shares with the guest.",
        "[[shm]] in vm.toml sets its owner; /dev/kvmfr0 also has to be in cgroup_device_acl of "
        "/etc/libvirt/qemu.conf, and AppArmor has to allow it",
        f"{_QEMU}, system/physmem.c",
    ),
    Known(
        "shared-memory-absent",
        r"can't open backing store (?P<node>\S+) for guest RAM: No such file or directory",
        "{node}, which the domain shares with the guest, does not exist.",
        "for /dev/kvmfr0: sudo modprobe kvmfr; for a folder: make it, or correct the domain's XML",
        f"{_QEMU}, system/physmem.c",
    ),
    Known(
        "no-backing-memory",
        r"unable to map backing store for guest RAM: Cannot allocate memory",
        "There are not enough free hugepages for the guest's memory.",
        "add [hugepages] to vm.toml; grep Huge /proc/meminfo shows how many are free",
        f"{_QEMU}, system/physmem.c",
    ),
    Known(
        "vcpu-stopped",
        r"error: kvm run failed (?P<reason>.+)",
        "KVM could not run a vCPU any further ({reason}), so the guest stands still.",
        "'Bad address' means that the guest used memory that is no longer there: if a passed "
        "device failed just before, the kernel's lines about it say why",
        f"{_QEMU}, accel/kvm/kvm-all.c",
    ),
    Known(
        "no-memory",
        r"cannot set up guest memory '(?P<name>[^']*)': Cannot allocate memory",
        "The host does not have enough free memory for the guest.",
        "give the VM less memory, or end programs; vfio-hooks check compares what all VMs need",
        f"{_QEMU}, system/physmem.c",
    ),
    Known(
        "memory-lock-limit",
        r"RLIMIT_MEMLOCK \((?P<limit>\d+)\) exceeded",
        "The guest's memory has to be locked for its devices, but QEMU may lock only {limit} "
        "bytes.",
        "in the domain's XML, <hard_limit> of <memtune> has to be above the guest's memory, by "
        "1 GiB or more; or leave it out",
        f"{_LINUX}, drivers/vfio/vfio_iommu_type1.c",
    ),
    Known(
        "memory-not-mapped",
        r"(?:VFIO_MAP_DMA failed|vfio_(?:container_)?dma_map\(.*\) = -12).*Cannot allocate memory",
        "The guest's memory cannot be locked for its devices: QEMU's limit, or the host's memory, "
        "is too small.",
        "look for a line with RLIMIT_MEMLOCK at the same time; <hard_limit> in the domain's XML "
        "sets that limit",
        f"{_QEMU}, hw/vfio/common.c and util/vfio-helpers.c",
    ),
    Known(
        "address-beyond-iommu",
        r"vfio_(?:container_)?dma_map\([^,]*, (?P<address>0x[0-9a-f]+), .*\) = -22 "
        r"\(Invalid argument\)",
        "The host's IOMMU does not map the guest's address {address} for passed devices. Often the "
        "guest's processor has more address bits than the IOMMU.",
        "for a guest with shared memory (Looking Glass): vfio-hooks check; otherwise it only keeps "
        "one passed device from reading another's memory",
        f"{_QEMU}, hw/vfio/common.c",
    ),
    Known(
        "mapping-failed",
        r"(?:^|[\s:])vfio: DMA mapping failed, unable to continue",
        "QEMU ended because it could not map something for the passed devices that came into the "
        "guest's address space after its start.",
        "the line before says which address, and why",
        f"{_QEMU}, hw/vfio/common.c",
    ),
    Known(
        "peer-to-peer",
        r"PCI peer-to-peer transactions on BARs are not supported|"
        r"IOMMU_IOAS_MAP failed: Bad address, PCI BAR\?",
        "One passed device cannot read another's memory directly. All else works.",
        "usually nothing: few programs need it",
        f"{_QEMU}, hw/vfio/common.c and backends/iommufd.c",
    ),
    Known(
        "no-interrupt-remapping",
        r"No interrupt remapping support\.",
        "This host's IOMMU cannot check interrupts of devices, and so the kernel gives none away.",
        "switch interrupt remapping (x2APIC) on in the firmware; if the firmware has no such "
        "setting, only the unsafe module parameter that the line names is left",
        f"{_LINUX}, drivers/vfio/vfio_iommu_type1.c",
    ),
    Known(
        "no-iommu-model",
        r"No available IOMMU models",
        "The kernel has VFIO, but no IOMMU driver for it.",
        "sudo modprobe vfio_iommu_type1; vfio-hooks check says whether the IOMMU is on",
        f"{_QEMU}, hw/vfio/container.c",
    ),
    Known(
        "hugepages-short",
        r"HugeTLB: allocating (?P<wanted>\d+) of page size (?P<size>.+?) failed.*Only allocated "
        r"(?P<got>\d+) hugepages",
        "At boot, {got} of {wanted} hugepages of {size} were made; there was no memory for the "
        "rest.",
        "ask for fewer on the kernel's command line, or name the node: hugepages=0:N",
        f"{_LINUX}, mm/hugetlb.c",
        boot=True,
    ),
    Known(
        "out-of-memory",
        r"(?:Out of memory|Memory cgroup out of memory): Killed process (?P<pid>\d+) "
        r"\((?P<program>[^)]*)\)",
        "The host ran out of memory, and the kernel killed {program} (process {pid}).",
        "give the VM less memory, or use fewer hugepages, because nothing else can use their "
        "memory",
        f"{_LINUX}, mm/oom_kill.c",
    ),
    Known(
        "page-allocation-failure",
        r"(?P<program>\S+): page allocation failure: order:(?P<order>\d+)",
        "The kernel found no free block of 2^{order} pages for {program}.",
        "if something failed at that time: free some memory, or use fewer hugepages",
        f"{_LINUX}, mm/page_alloc.c",
    ),
    Known(
        "rom-header",
        rf"{_DEVICE}: Invalid PCI ROM header signature: expecting 0xaa55, got (?P<got>0x[0-9a-f]+)",
        "The ROM of {device} cannot be read: it has {got} where a ROM begins with 0xaa55. A card "
        "that was the boot display often no longer shows its ROM.",
        "if the guest shows no picture: save the ROM when another card is the boot display, and "
        "name the file in the <rom file='...'/> of the domain's XML",
        f"{_LINUX}, drivers/pci/rom.c",
    ),
    Known(
        "rom-unreadable",
        rf"vfio-pci: Cannot read device rom at {_DEVICE}",
        "QEMU cannot read the ROM of {device}. Then the guest's firmware cannot use the card; "
        "the guest's driver often can.",
        "if the guest shows no picture: <rom file='...'/> with a saved ROM, or <rom bar='off'/>",
        f"{_QEMU}, hw/vfio/pci.c",
    ),
    Known(
        "rom-file-absent",
        r'failed to find romfile "(?P<file>[^"]*)"',
        "QEMU cannot find the ROM file {file}, or may not read it.",
        "correct the path in <rom file='...'/>; a file in a home folder cannot be reached, and "
        "AppArmor allows few folders: put it into /usr/share/vgabios",
        f"{_QEMU}, hw/pci/pci.c",
    ),
    Known(
        "rom-unstable",
        rf"Device at {_DEVICE} is known to cause system instability",
        "QEMU knows that running the ROM of {device} can hang the host.",
        "<rom bar='off'/> for this device in the domain's XML",
        f"{_QEMU}, hw/vfio/pci.c",
    ),
    Known(
        "device-error",
        rf"vfio_err_notifier_handler\({_DEVICE}\) Unrecoverable error detected",
        "{device} reported an error that cannot be corrected, and QEMU stopped the guest.",
        "virsh destroy the VM; the kernel's AER lines at the same time say what kind of error",
        f"{_QEMU}, hw/vfio/pci.c",
    ),
    Known(
        "device-wanted-back",
        rf"{_DEVICE}: Relaying device request to user \(#(?P<count>\d+)\)",
        "Something on the host unbinds {device} while the VM has it, and waits for the VM.",
        "shut the VM down, or remove the device from it with virsh detach-device",
        f"{_LINUX}, drivers/vfio/pci/vfio_pci_core.c",
    ),
    Known(
        "device-unbind-blocked",
        rf"{_DEVICE}: (?:No device request channel registered, blocked until released by user|"
        r"Device is currently in use, task .* blocked until device is released)",
        "Something on the host unbinds {device} while a program has it open, and waits without a "
        "limit until the program closes it.",
        "shut down the VM that has the device",
        f"{_LINUX}, drivers/vfio/pci/vfio_pci_core.c and drivers/vfio/vfio_main.c",
    ),
    Known(
        "vf-token",
        rf"{_DEVICE}: VF token required to access device",
        "{device} belongs to a physical function that has vfio-pci as well. In that case every "
        "VM has to show a shared secret.",
        "give the physical function its own driver back, or set the same vf-token in both VMs",
        f"{_LINUX}, drivers/vfio/pci/vfio_pci_core.c",
    ),
    Known(
        "pf-has-vfs",
        rf"{_DEVICE}: Cannot bind to PF with SR-IOV enabled",
        "{device} has virtual functions, and vfio-pci does not take a device with these.",
        "if nothing uses its VFs, write 0 into its sriov_numvfs",
        f"{_LINUX}, drivers/vfio/pci/vfio_pci_core.c",
    ),
    Known(
        "nvidia-in-use",
        rf"NVRM: Attempting to remove device {_DEVICE} with non-zero usage count",
        "A program has {device} open, and nvidia's driver waits for it in the kernel without a "
        "limit. Whatever unbinds the card hangs until then.",
        "end the programs that have /dev/nvidia* open (sudo fuser -v /dev/nvidia*); if that does "
        "not help, reboot. Before the next start: vfio-hooks check",
        "NVIDIA open-gpu-kernel-modules 580, kernel-open/nvidia/nv-pci.c",
    ),
    Known(
        "nvidia-not-probed",
        r"NVRM: The NVIDIA probe routine was not called for (?P<count>\d+) device",
        "Another driver has {count} of the host's nvidia cards. For a card that vfio-pci has, "
        "this is as it should be.",
        "if it is the host's own card: lspci -k names the driver that has it",
        "NVIDIA open-gpu-kernel-modules 580, kernel-open/nvidia/nv.c",
    ),
    Known(
        "nvidia-init-failed",
        rf"NVRM: GPU {_DEVICE}: RmInitAdapter failed",
        "nvidia's driver cannot start {device}. After a VM, the card may not have been reset.",
        "vfio-hooks undo, then reboot if that does not help; reset_method below [gpu] in vm.toml "
        "chooses another reset",
        "NVIDIA open-gpu-kernel-modules 580, src/nvidia/arch/nvalloc/unix/src/osinit.c",
    ),
    Known(
        "nvidia-lost",
        r"NVRM: .*GPU (?:at \S+ )?has fallen off the bus",
        "An nvidia card of the host no longer answers.",
        "switch the host off and on; if it happens again, look at the power supply, riser and slot",
        "NVIDIA open-gpu-kernel-modules 580, src/nvidia/arch/nvalloc/unix/src/osapi.c",
        boot=True,
    ),
    Known(
        "amdgpu-timeout",
        rf"amdgpu {_DEVICE}: amdgpu: ring (?P<ring>\S+) timeout, signaled",
        "{device} did not finish its work in time (ring {ring}); amdgpu then tries to reset it.",
        "after a VM: the card was probably not reset; try reset_method below [gpu] in vm.toml, "
        "and reboot if that does not help",
        f"{_LINUX}, drivers/gpu/drm/amd/amdgpu/amdgpu_job.c",
    ),
    Known(
        "amdgpu-reset-failed",
        rf"amdgpu {_DEVICE}: (?:amdgpu: )?(?:GPU reset\(\d+\) failed|GPU reset end with ret = -\d+|"
        r"ASIC reset failed with error|GPU mode1 reset failed)",
        "amdgpu could not reset {device}.",
        "suspend and resume the host, or reboot it; for the next time, vfio-hooks iommu shows "
        "which resets the card has",
        f"{_LINUX}, drivers/gpu/drm/amd/amdgpu/amdgpu_device.c",
    ),
    Known(
        "amdgpu-init-failed",
        rf"amdgpu {_DEVICE}: (?:amdgpu: )?Fatal error during GPU init",
        "amdgpu cannot start {device}. After a VM, the card may not have been reset.",
        "reboot; with [gpu] in vm.toml, a card that its driver refuses is removed and the bus is "
        "rescanned",
        f"{_LINUX}, drivers/gpu/drm/amd/amdgpu/amdgpu_kms.c",
        boot=True,
    ),
    Known(
        "probe-failed",
        rf"(?:{_DEVICE}: probe with driver (?P<driver>\S+)|probe of \S+) failed with error "
        r"-(?P<error>\d+)",
        "A driver was offered a device and did not take it (error {error}).",
        "the driver's own lines just before say why",
        f"{_LINUX}, drivers/base/dd.c; before 6.8 without the driver's name",
    ),
    Known(
        "bar-without-space",
        rf"{_DEVICE}: (?:BAR|VF BAR) (?P<bar>\d).*: can't assign; no space",
        "There is no room below the bridges for BAR {bar} of {device}, so that part of the device "
        "cannot be used.",
        "switch Above 4G Decoding on in the firmware; a smaller BAR below [gpu] in vm.toml may "
        "also help",
        f"{_LINUX}, drivers/pci/setup-res.c",
    ),
    Known(
        "aer-uncorrectable",
        rf"{_DEVICE}: (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \([^)]*\), "
        r"type=(?P<type>[^,]+)",
        "{device} reported an error of the PCIe link that could not be corrected ({type}).",
        "if it comes at the VM's start or end, the card's reset may be at fault: try "
        "reset_method below [gpu] in vm.toml; otherwise look at riser, slot and power",
        f"{_LINUX}, drivers/pci/pcie/aer.c",
        boot=True,
    ),
    Known(
        "aer-correctable",
        rf"{_DEVICE}: (?:AER: )?PCIe Bus Error: severity=Correct(?:ed|able), type=(?P<type>[^,]+)",
        "{device} corrected an error of the PCIe link ({type}). Nothing is lost.",
        "a few are harmless, but many cost time: look at riser and slot, or try pcie_aspm=off",
        f"{_LINUX}, drivers/pci/pcie/aer.c",
    ),
    Known(
        "aer-not-recovered",
        rf"{_DEVICE}: (?:AER: )?device recovery failed",
        "The kernel could not recover the devices below {device} after a PCIe error.",
        "shut down the VM that has it; if the device still does not answer, reboot",
        f"{_LINUX}, drivers/pci/pcie/err.c",
        boot=True,
    ),
    Known(
        "dpc-contained",
        rf"{_DEVICE}: (?:DPC: )?containment event, status:",
        "The port {device} switched its link off because of an error of the device below it.",
        "if it comes at the VM's start or end, the card's reset may be at fault: try reset_method "
        "below [gpu] in vm.toml",
        f"{_LINUX}, drivers/pci/pcie/dpc.c",
        boot=True,
    ),
    Known(
        "not-ready-after-reset",
        rf"{_DEVICE}: not ready (?P<time>\d+)ms after (?P<reset>(?!resume;).+); giving up",
        "{device} did not come back within {time} ms after a reset ({reset}).",
        "reboot; then try another reset_method below [gpu] in vm.toml",
        f"{_LINUX}, drivers/pci/pci.c",
    ),
    Known(
        "reset-with-pending-transactions",
        rf"{_DEVICE}: timed out waiting for pending transaction; performing (?:AF )?function level "
        "reset anyway",
        "{device} was still busy when it was reset.",
        "nothing, if the device works; otherwise try another reset_method below [gpu] in vm.toml",
        f"{_LINUX}, drivers/pci/pci.c",
    ),
    Known(
        "intel-dma-fault",
        rf"DMAR: \[DMA (?P<kind>Read|Write)[^\]]*\] Request device \[{_SHORT}\] fault addr "
        r"(?P<address>\S+)",
        "The IOMMU stopped {device}: it tried to {kind} at {address}, which is not its memory.",
        "one or two when drivers change are harmless; many mean that the device was not reset, "
        "or that its driver is at fault",
        f"{_LINUX}, drivers/iommu/intel/dmar.c",
    ),
    Known(
        "intel-interrupt-fault",
        rf"DMAR: \[INTR-REMAP\] Request device \[{_SHORT}\] fault index",
        "The IOMMU stopped an interrupt of {device} that had not been set up.",
        "one or two when drivers change are harmless",
        f"{_LINUX}, drivers/iommu/intel/dmar.c",
    ),
    Known(
        "amd-dma-fault",
        rf"(?:{_DEVICE}: )?(?:AMD-Vi: )?Event logged \[IO_PAGE_FAULT .*address=(?P<address>\S+)",
        "The IOMMU stopped a device that tried to use {address}, which is not its memory.",
        "one or two when drivers change are harmless; many mean that the device was not reset, "
        "or that its driver is at fault",
        f"{_LINUX}, drivers/iommu/amd/iommu.c",
    ),
    Known(
        "soft-lockup",
        r"BUG: soft lockup - CPU#(?P<cpu>\d+) stuck for (?P<time>\d+)s! \[(?P<task>[^\]]*)\]",
        "CPU {cpu} ran nothing but {task} in the kernel for {time} s.",
        "if the task is one of QEMU's vCPUs on an isolated CPU, the watchdog is misled, and "
        "soft_watchdog = 0 in [memory] of vm.toml switches it off while the VM runs",
        f"{_LINUX}, kernel/watchdog.c",
        boot=True,
    ),
    Known(
        "rcu-stall",
        r"rcu: INFO: (?P<kind>\S+) (?:self-detected stall on CPU|detected stalls on CPUs/tasks)",
        "A CPU did not pass through the kernel's scheduler for a long time.",
        "look for a vCPU with a realtime scheduler (<vcpusched>) or a reset that took long at the "
        "same time",
        f"{_LINUX}, kernel/rcu/tree_stall.h",
        boot=True,
    ),
    Known(
        "hung-task",
        r"INFO: task (?P<task>.+):(?P<pid>\d+) blocked for more than (?P<time>\d+) seconds",
        "{task} (process {pid}) has waited in the kernel for more than {time} s, and cannot be "
        "killed.",
        "if it is vfio-hooks or libvirt: a program has the device open that is being unbound; "
        "sudo cat /proc/{pid}/stack says where it waits",
        f"{_LINUX}, kernel/hung_task.c",
    ),
    Known(
        "split-lock",
        r"split lock detection: #AC: (?P<task>.+)/(?P<pid>\d+) took a split_lock trap",
        "A program of the guest locked memory across two cache lines, and the kernel slowed its "
        "vCPU {task} down for that.",
        'in vm.toml: [[write]] with path = "kernel.split_lock_mitigate" and value = 0',
        f"{_LINUX}, arch/x86/kernel/cpu/intel.c",
    ),
    Known(
        "tsc-unstable",
        r"(?:Marking TSC unstable due to (?P<reason>.+)|Marking clocksource 'tsc' as unstable)",
        "The host no longer trusts the processor's time stamp counter. Guests now read their "
        "clock more slowly.",
        "look for a firmware update; after a suspend, reboot",
        f"{_LINUX}, arch/x86/kernel/tsc.c and kernel/time/clocksource.c",
    ),
    Known(
        "kvm-off-in-firmware",
        r"kvm(?:_amd|_intel)?: (?:SVM|VMX) (?:disabled \(by BIOS\)|not supported by CPU)|"
        "kvm: support for '[^']*' disabled by bios",
        "The processor's virtualisation is off in the firmware, or missing.",
        "switch it on in the firmware: AMD calls it SVM, Intel VT-x",
        f"{_LINUX}, arch/x86/kvm/svm/svm.c and vmx/vmx.c; before 6.3, x86.c",
    ),
    Known(
        "usb-controller-dead",
        rf"xhci_hcd {_DEVICE}: xHCI host controller not responding, assume dead",
        "The host's driver gave up the USB controller {device}. Nothing on it works any longer.",
        "if a VM had it: unbind it and run echo 1 > /sys/bus/pci/devices/{device}/reset, then "
        "bind it again; otherwise reboot",
        f"{_LINUX}, drivers/usb/host/xhci-ring.c",
    ),
    Known(
        "apparmor-denied",
        r'apparmor="DENIED" operation="(?P<operation>[^"]*)".* profile="(?P<profile>[^"]*)" '
        r'name="(?P<name>[^"]*)"',
        "AppArmor kept a program with the profile {profile} from this: {operation} of {name}.",
        "for a profile libvirt-UUID: if you trust the VM with it, add a line for {name} to "
        "/etc/apparmor.d/local/abstractions/libvirt-qemu, then start the VM again",
        f"{_LINUX}, security/apparmor",
    ),
    Known(
        "selinux-denied",
        r"avc:\s+denied\s+\{ (?P<operation>[^}]*) \}.*scontext=(?P<context>\S+)",
        "SELinux kept a program with the context {context} from this: {operation}.",
        "sudo ausearch -m avc -ts recent | audit2why says which rule is missing",
        f"{_LINUX}, security/selinux/avc.c",
    ),
    Known(
        "image-locked",
        r'Failed to get "write" lock',
        "Another program uses the same disk image, most likely another VM.",
        "sudo fuser -v FILE names it; two VMs must not write to one image",
        f"{_QEMU}, block/file-posix.c",
    ),
    Known(
        "tpm-without-program",
        r"Unable to find 'swtpm\w*' binary in \$PATH|TPM version '[^']*' is not supported",
        "libvirt found no program that can emulate the guest's TPM, or not in this version.",
        "install swtpm (on Debian also swtpm-tools), then: sudo systemctl restart libvirtd, or "
        "virtqemud if that is installed; a distribution's swtpm may lack version 1.2",
        f"{_LIBVIRT}, util/virtpm.c and qemu_validate.c",
    ),
    Known(
        "tpm-not-prepared",
        r"Could not run '(?P<program>\S+/swtpm_setup)'\. exitstatus: \d+; Check error log "
        r"'(?P<file>[^']*)'",
        "{program} could not prepare the guest's emulated TPM.",
        "the end of {file} says why (read it with sudo)",
        f"{_LIBVIRT}, qemu_tpm.c",
    ),
    Known(
        "tpm-not-started",
        r"tpm-emulator: TPM result for CMD_INIT: (?P<code>0x[0-9a-f]+)",
        "The guest's emulated TPM did not start (error {code}).",
        "the end of /var/log/swtpm/libvirt/qemu/VM-swtpm.log says why (read it with sudo)",
        f"{_QEMU}, backends/tpm/tpm_emulator.c",
    ),
    Known(
        "tpm-died",
        r"swtpm died and reported: (?P<reason>.+)",
        "The program that emulates the guest's TPM ended: {reason}",
        "if something was denied, look for a line of AppArmor or SELinux at the same time; the "
        "distribution may have an update of swtpm with the missing rule",
        f"{_LIBVIRT}, qemu_tpm.c",
    ),
    Known(
        "machine-gone",
        r"(?:does not support machine type '|unsupported machine type: \")(?P<machine>[^'\"]+)",
        "This QEMU no longer has the machine type {machine}, or does not have it yet.",
        "virsh edit: the newest of the same kind, such as pc-q35-10.0, in <type machine='...'>; "
        "virsh domcapabilities lists all",
        f"{_LIBVIRT}, qemu_validate.c; {_QEMU}, system/vl.c",
    ),
    Known(
        "machine-deprecated",
        r"Machine type '(?P<machine>[^']+)' is deprecated",
        "A later QEMU will not have the machine type {machine}. For now, the VM starts.",
        "before the next upgrade, choose a newer one of the same kind with virsh edit",
        f"{_QEMU}, system/vl.c",
    ),
    Known(
        "hugetlbfs-absent",
        r"hugetlbfs filesystem is not mounted or disabled by administrator config",
        "libvirt found no mounted hugetlbfs of the wanted page size when it was started.",
        "mount one at boot (systemd's dev-hugepages.mount has the default size), then: sudo "
        "systemctl restart libvirtd",
        f"{_LIBVIRT}, qemu_command.c",
    ),
    Known(
        "passthrough-unsupported",
        r"host doesn't support passthrough of host PCI devices",
        "There are no IOMMU groups, or the module vfio cannot be loaded.",
        "vfio-hooks check says which of the two it is, and what to do",
        f"{_LIBVIRT}, qemu_domain.c",
    ),
    Known(
        "device-in-other-vm",
        rf"PCI device {_DEVICE} is in use by driver (?P<driver>\S+), domain (?P<domain>.+)",
        "The VM {domain} has {device}.",
        "shut that VM down first",
        f"{_LIBVIRT}, hypervisor/virhostdev.c",
    ),
    Known(
        "device-not-detached",
        rf"Unmanaged PCI device {_DEVICE} must be manually detached from the host",
        "{device} has managed='no' in the domain's XML, but no vfio driver.",
        "add [pci] to vm.toml, or set managed='yes'",
        f"{_LIBVIRT}, hypervisor/virhostdev.c",
    ),
    Known(
        "unbind-refused",
        rf"Failed to unbind PCI device '{_DEVICE}' from (?P<driver>\S+)",
        "The driver {driver} does not let go of {device}.",
        "the kernel's lines at the same time say why",
        f"{_LIBVIRT}, util/virpci.c",
    ),
    Known(
        "libvirt-cannot-reset",
        rf"Unable to reset PCI device {_DEVICE}: (?P<reason>.+)",
        "libvirt cannot reset {device}: {reason}.",
        "pass all functions of the card to the same VM; vfio-hooks iommu shows which resets the "
        "card has",
        f"{_LIBVIRT}, util/virpci.c",
    ),
    Known(
        "switch-without-acs",
        rf"Device {_DEVICE} is behind a switch lacking ACS and cannot be assigned",
        "Devices behind the same switch could reach {device} without passing the IOMMU, so "
        "libvirt refuses it.",
        "move the card to another slot; relaxed_acs_check in /etc/libvirt/qemu.conf accepts the "
        "risk",
        f"{_LIBVIRT}, util/virpci.c",
    ),
)
