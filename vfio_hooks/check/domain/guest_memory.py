"""The guest's memory: how much, in which pages, and who may take it back."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import passed
from vfio_hooks.check.domain.kind import attribute
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import HugePages, qemu_conf
from vfio_hooks.domain.devices import KVMFR, kibibytes
from vfio_hooks.domain.editing import Edit, drop, put
from vfio_hooks.domain.files import QEMU_CONF
from vfio_hooks.errors import HookError
from vfio_hooks.host.cgroup import counts_hugepages
from vfio_hooks.host.cpu import nodes
from vfio_hooks.host.memory import amount, default_page_size, page_sizes, pool
from vfio_hooks.plural import counted, verb


@guest_rule(
    "memory-host",
    "error",
    why="VFIO locks all of a guest's memory, so all of it has to be available when the guest "
    "starts.",
    source="https://docs.kernel.org/driver-api/vfio.html",
)
def host(patient: Patient, guest: Guest) -> Iterator[Seen]:
    try:
        there = sum(node.memory for node in nodes(patient.host))
    except HookError:  # a host that shows no CPU, which is a finding of its own
        return
    if there and guest.domain.memory >= there and passed(patient, guest):
        yield Seen(
            f"the guest needs {amount(guest.domain.memory)} of memory, but this host has "
            f"{amount(there)}",
            f"<memory unit='KiB'>{there * 3 // 4 >> 20 << 20}</memory>, so that some is left for "
            f"the host",
        )


@guest_rule(
    "memory-limit",
    "error",
    why="With passed devices libvirt lets QEMU lock as much memory as <hard_limit> says. All of "
    "the guest's memory is locked, and what QEMU itself needs comes on top. Without such devices "
    "the kernel kills QEMU at the limit, which counts huge pages only if control groups are "
    "mounted with memory_hugetlb_accounting.",
    source="libvirt's qemu_domain.c, qemuDomainGetMemLockLimitBytes; "
    "https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max and hugetlb",
)
def limit(patient: Patient, guest: Guest) -> Iterator[Seen]:
    told = guest.xml.find("memtune/hard_limit")
    is_locked = bool(passed(patient, guest))
    if told is None:
        return
    if not is_locked and guest.domain.hugepages is not None and not counts_hugepages(patient.host):
        return
    size = kibibytes(told)
    if 0 < size <= guest.domain.memory:
        yield Seen(
            f"<hard_limit> is {amount(size)}, and the guest's memory {amount(guest.domain.memory)}",
            "libvirt then chooses the limit itself" if is_locked else "there is then no limit",
            (drop("memtune/hard_limit"),),
        )


@guest_rule(
    "memory-shared",
    "error",
    why="virtiofs runs outside QEMU and works in the guest's memory. libvirt refuses to define a "
    "domain that has it unless the memory is shared.",
    source="libvirt's qemu_validate.c, 'virtiofs' requires shared memory",
)
def shared(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find("devices/filesystem/driver[@type='virtiofs']") is None:
        return
    cells = [cell.get("memAccess") for cell in guest.xml.iterfind("cpu/numa/cell")]
    mode = attribute(guest, "memoryBacking/access", "mode")
    if all((cell or mode) == "shared" for cell in cells or [mode]):
        return
    edits = [put("memoryBacking/access", mode="shared")]
    if guest.domain.hugepages is None and guest.xml.find("memoryBacking/source") is None:
        edits.insert(0, put("memoryBacking/source", type="memfd"))
    yield Seen(
        "the guest has a virtiofs folder, but its memory is not shared",
        edits=tuple(edits),
        by_hand=any(cell not in (None, "shared") for cell in cells),
    )


@guest_rule(
    "memory-kvmfr",
    "error",
    why="QEMU may open only the devices that libvirt allows, and libvirt does not look into "
    "<qemu:commandline>.",
    source="https://looking-glass.io/docs/rc/ivshmem_kvmfr/; qemu.conf, cgroup_device_acl",
)
def kvmfr(patient: Patient, guest: Guest) -> Iterator[Seen]:
    path = next((one.path for one in guest.domain.shared if one.path.startswith(KVMFR)), None)
    # Only root can read the file on Debian.
    if path is None or patient.host.maybe(QEMU_CONF) is None:
        return
    allowed = qemu_conf.allowed(patient.host)
    if allowed is None:
        do = (
            f'in it: cgroup_device_acl = ["/dev/null", "/dev/full", "/dev/zero", '
            f'"/dev/random", "/dev/urandom", "/dev/ptmx", "/dev/kvm", "{path}"]\n'
            "then: sudo systemctl restart libvirtd (or virtqemud)"
        )
    else:
        do = f'add "{path}" to the first cgroup_device_acl there, the only one that counts'
    if path not in (allowed or ()):
        yield Seen(f"QEMU should use {path}, but {QEMU_CONF} does not allow it", do)


@guest_rule(
    "memory-balloon",
    "warning",
    why="VFIO locks all of the guest's memory, so a balloon cannot give anything back. Its "
    "driver only costs time.",
    source="memory-balloon-device",
)
def balloon(patient: Patient, guest: Guest) -> Iterator[Seen]:
    model = attribute(guest, "devices/memballoon", "model")
    if model != "none" and passed(patient, guest):
        yield Seen(
            f"the guest has a memory balloon ({model})"
            if model
            else "the guest has no <memballoon>, so libvirt gives it one",
            edits=(Edit("devices/memballoon", {"model": "none"}, only=True),),
        )


@guest_rule(
    "memory-current",
    "warning",
    why="The balloon should take away the difference at boot. With VFIO it cannot.",
    source="memory-allocation",
)
def current(patient: Patient, guest: Guest) -> Iterator[Seen]:
    now, whole = guest.xml.find("currentMemory"), guest.xml.find("memory")
    if now is None or whole is None or not passed(patient, guest):
        return
    if 0 < kibibytes(now) < guest.domain.memory:
        unit = {"unit": whole.get("unit")}
        yield Seen(
            f"the guest starts with {amount(kibibytes(now))} of {amount(guest.domain.memory)}",
            edits=(Edit("currentMemory", unit, text=(whole.text or "").strip()),),
        )


@guest_rule(
    "memory-page-size",
    "error",
    why="QEMU does not start if the memory is not a multiple of its huge pages, or if the host "
    "has no pages of that size.",
    source="memory-backing",
)
def page_size(patient: Patient, guest: Guest) -> Iterator[Seen]:
    known = page_sizes(patient.host)
    for page in guest.domain.hugepages or ():
        size = _size(patient, page)
        if not size or not known:
            continue
        if size not in known:
            shown = ", ".join(map(str, known))
            flag = "; for 1 GiB, the processor needs the flag pdpe1gb"
            yield Seen(
                f"the domain asks for huge pages of {size} KiB, but this host has pages of {shown} "
                f"KiB",
                f"<page size='{known[0]}' unit='KiB'/>{flag if size == 1 << 20 else ''}",
            )
        elif guest.domain.memory % size and not guest.domain.cell_memory:
            up = -(-guest.domain.memory // size) * size
            yield Seen(
                f"{guest.domain.memory} KiB of memory do not fill pages of {amount(size)}",
                f"<memory unit='KiB'>{up}</memory>",
            )


@guest_rule(
    "memory-pool",
    "error",
    why="QEMU does not start if there are fewer free huge pages than the guest's memory needs.",
    source="memory-backing",
    sure="likely",
)
def free_pages(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    asked = domain.hugepages or ()
    if guest.running or len(asked) != 1 or "hugepages" in patient.tables:
        return
    size = _size(patient, asked[0])
    if size not in page_sizes(patient.host):
        return
    at = domain.numa_nodes or frozenset(node.number for node in nodes(patient.host))
    pools = [one for number in at if (one := pool(patient.host, number, size))]
    free = sum(one.free for one in pools)
    if pools and free * size < domain.memory:
        yield Seen(
            f"the guest needs {counted(-(-domain.memory // size), 'page')} of {amount(size)}, but "
            f"{free or 'none'} {verb(free)} free",
            f"[hugepages] in {domain.name}'s vm.toml, which adds the pages while it runs"
            + (
                "; pages of 1 GiB are best made at boot: hugepagesz=1G hugepages=N on the kernel's "
                "command line"
                if size == 1 << 20
                else ""
            ),
        )


def _size(patient: Patient, page: HugePages) -> int:
    return page.size or default_page_size(patient.host) or 0


@guest_rule(
    "memory-locked",
    "hint",
    why="VFIO locks the guest's memory anyway. <locked/> also locks QEMU's own memory, and "
    "removes libvirt's limit on how much it may lock.",
    source="memory-backing",
    sure="possible",
)
def locked(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find("memoryBacking/locked") is None or not passed(patient, guest):
        return
    # The memory of an encrypted guest (SEV) has to be locked.
    if guest.xml.find("launchSecurity") is not None:
        return
    if guest.xml.find("memtune/hard_limit") is None:
        yield Seen(
            "<locked/> has no limit: if QEMU leaks memory, it can use up all memory of the host",
            edits=(drop("memoryBacking/locked"),),
            by_hand=True,
        )


RULES = (host, limit, shared, page_size, free_pages, kvmfr, balloon, current, locked)
