"""Lines of modprobe.d, and words of the kernel's command line for modprobe, that do harm.

modprobe.d(5); what modprobe makes of them was tried with kmod 34.2.
"""

from collections.abc import Iterator

from vfio_hooks.check.host.vfio import REBUILD
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot, softdep


@rule(
    "install-line-off",
    "host",
    "warning",
    why="If a module has a softdep, modprobe does not run its install line. Debian's nvidia driver "
    "is only loaded by such a line, so no card has a driver then.",
    source="modprobe.d(5), softdep; nvidia-modprobe.conf of Debian's nvidia-kernel-support",
)
def install(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    for place, words in boot.modprobe(host):
        module = words[1] if words[0] == "install" and len(words) > 1 else ""
        path, said = softdep.first(host, module) or ("", "")
        if softdep.is_vfio_first(said):
            yield Seen(
                f"{path} has a softdep of {module}, so modprobe does not run the install line "
                f"for {module} in {place}",
                f"in {path}: remove the softdep of {module}\n"
                f"{softdep.by_initramfs(module, '')}\n{REBUILD}",
            )


@rule(
    "blacklist-without-effect",
    "host",
    "warning",
    why="On the kernel's command line, modprobe takes the name of a module as it is written, and "
    "modules have names with underscores. In a file of modprobe.d a dash is fine.",
    source="tried with kmod 30 and 34.2",
)
def blacklist(patient: Patient) -> Iterator[Seen]:
    for value in boot.values(patient.host, "modprobe.blacklist"):
        for name in value.split(","):
            if "-" in name:
                yield Seen(
                    f"modprobe.blacklist={name} on the kernel's command line keeps no module away",
                    f"write it as modprobe.blacklist={name.replace('-', '_')}, then reboot",
                )


@rule(
    "sriov-max-vfs",
    "host",
    "hint",
    why="max_vfs makes VFs on every card of a driver as long as the driver is loaded. The kernel "
    "has deprecated it in favour of sriov_numvfs.",
    source="https://docs.kernel.org/PCI/pci-iov-howto.html; guide: modprobe",
)
def max_vfs(patient: Patient) -> Iterator[Seen]:
    for path, words in boot.modprobe(patient.host):
        for word in words[2:] if words[0] == "options" else []:
            if word.startswith("max_vfs="):
                yield Seen(
                    f"{path} has {words[1]} {word}",
                    "remove it, and add to vm.toml of the VM that gets the VFs: [[sriov]]",
                )


RULES = (install, blacklist, max_vfs)
