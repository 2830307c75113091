"""Boot loaders, and where each has the kernel's command line.

GRUB: /etc/default/grub and grub.d of Debian; systemd-boot: the Boot Loader Specification's entries,
kernel-install(8); the others are told, as their own tools are the only ones that write their files.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from vfio_hooks.boot import Edit, Work, text_of
from vfio_hooks.host import Host
from vfio_hooks.record import record

_GRUB = "/etc/default/grub.d/vfio-hooks.cfg"
_GRUB_ENTRY = "/etc/grub.d/42_vfio-hooks"
_CMDLINE = "/etc/kernel/cmdline"
_ENTRIES = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
_FALLBACK = "vfio-hooks-before"
"""The entry with the parameters that there were before."""


@record
class Loader:
    """How one is known by its files, and what it takes to give the kernel more parameters."""

    name: str
    is_used: Callable[[Host], bool]
    work: Callable[[Host, Sequence[str]], Work]


def add(line: str, parameters: Sequence[str]) -> str:
    """A command line with parameters at its end, those left out that it has already."""
    known = shlex.split(line, posix=False)
    return " ".join([line.strip(), *(one for one in parameters if one not in known)]).strip()


def _grub(host: Host, parameters: Sequence[str]) -> Work:
    """A file of our own, read after /etc/default/grub, which stays as it is."""
    words = " ".join(parameters)
    own = (
        "# By vfio-hooks boot; vfio-hooks boot revert takes it away.\n"
        f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {words}"\n'
    )
    entry = _grub_entry(host)
    edits = (_edit(host, _GRUB, own), _edit(host, _GRUB_ENTRY, entry, 0o755))
    return Work("GRUB", edits, (("update-grub",),))


def _grub_entry(host: Host) -> str:
    """What grub.d prints into grub.cfg: today's kernel with today's parameters."""
    today = " ".join(_today(host))
    release = host.maybe("/proc/sys/kernel/osrelease") or ""
    return (
        "#!/bin/sh\n"
        "# By vfio-hooks boot: an entry with the parameters that there were before.\n"
        "set -e\n"
        ". /usr/share/grub/grub-mkconfig_lib\n"
        f"release={shlex.quote(release)}\n"
        '[ -e "/boot/vmlinuz-$release" ] || exit 0\n'
        "device=$(grub-probe --target=device /boot)\n"
        "folder=$(make_system_path_relative_to_its_root /boot)\n"
        "echo \"menuentry 'As before vfio-hooks boot' --id vfio-hooks-before {\"\n"
        'prepare_grub_to_access_device "$device"\n'
        f'echo "linux $folder/vmlinuz-$release "{shlex.quote(today)}\n'
        '[ ! -e "/boot/initrd.img-$release" ] || echo "initrd $folder/initrd.img-$release"\n'
        'echo "}"\n'
    )


def _today(host: Host) -> list[str]:
    """The words that this boot's kernel got, without those of its loader."""
    line = host.maybe("/proc/cmdline") or ""
    return [word for word in line.split() if not word.startswith(("BOOT_IMAGE=", "initrd="))]


def _kernel_install(host: Host, parameters: Sequence[str]) -> Work:
    """kernel-install writes the entries anew from /etc/kernel/cmdline."""
    line = host.maybe(_CMDLINE) or " ".join(_today(host))
    edits = [_edit(host, _CMDLINE, f"{add(line, parameters)}\n"), *_fallback(host)]
    release = host.maybe("/proc/sys/kernel/osrelease") or ""
    again = ("kernel-install", "add", release, f"/usr/lib/modules/{release}/vmlinuz")
    return Work("kernel-install", tuple(edits), (again,))


def _is_kernel_install(host: Host) -> bool:
    """Whether it writes the entries: then they have the machine's id in them."""
    made = any("\nmachine-id" in (text_of(host, path) or "") for path in _entries(host))
    return host.exists(_CMDLINE) or made


def _systemd_boot(host: Host, parameters: Sequence[str]) -> Work:
    """Entries that somebody wrote by hand, as on Arch: their options, and a copy of the first."""
    edits = list(_fallback(host))
    for path in _entries(host):
        text = text_of(host, path) or ""
        new = re.sub(
            r"^(options[ \t]+)(.*)$",
            lambda found: f"{found[1]}{add(found[2], parameters)}",
            text,
            flags=re.MULTILINE,
        )
        edits.append(Edit(path, text, new))
    return Work("systemd-boot", tuple(edits))


def _fallback(host: Host) -> Iterator[Edit]:
    for path in _entries(host)[:1]:
        folder = path.rpartition("/")[0]
        text = text_of(host, path) or ""
        named = re.sub(r"^title[ \t].*$", "title As before vfio-hooks boot", text, flags=re.M)
        yield _edit(host, f"{folder}/{_FALLBACK}.conf", named)


def _entries(host: Host) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder in _ENTRIES
        for name in host.names(folder)
        if name.endswith(".conf") and name != f"{_FALLBACK}.conf"
    ]


def _edit(host: Host, path: str, after: str, mode: int = 0o644) -> Edit:
    return Edit(path, text_of(host, path), after, mode)


def _told(name: str, line: str) -> Callable[[Host, Sequence[str]], Work]:
    return lambda host, parameters: Work(
        name,
        told=(
            line.format(
                words=" ".join(parameters),
                each=" ".join(f"--append-if-missing={one}" for one in parameters),
            ),
        ),
    )


def _has(*paths: str) -> Callable[[Host], bool]:
    return lambda host: any(map(host.exists, paths))


LOADERS = (
    Loader(
        "rpm-ostree",
        _has("/run/ostree-booted"),
        _told("rpm-ostree", "rpm-ostree kargs {each}"),
    ),
    Loader(
        "grubby",
        _has("/usr/sbin/grubby", "/sbin/grubby"),
        _told("grubby", 'grubby --update-kernel=ALL --args="{words}"'),
    ),
    Loader(
        "limine",
        _has("/boot/limine.conf", "/boot/limine/limine.conf", "/etc/default/limine"),
        _told("limine", "at the end of each line cmdline: in limine.conf, add: {words}"),
    ),
    Loader("GRUB", _has("/usr/sbin/update-grub"), _grub),
    Loader(
        "GRUB",
        _has("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"),
        _told(
            "GRUB",
            "in /etc/default/grub, at the end of GRUB_CMDLINE_LINUX: {words}; then: "
            "grub-mkconfig -o /boot/grub/grub.cfg (grub2-mkconfig, grub2 where they are called so)",
        ),
    ),
    Loader("kernel-install", _is_kernel_install, _kernel_install),
    Loader("systemd-boot", lambda host: bool(_entries(host)), _systemd_boot),
)
"""The first that is used counts: several may have left files."""
