"""Boot loaders, and where each has the kernel's command line.

GRUB: /etc/default/grub and grub.d as on Debian. systemd-boot: the entries of the Boot Loader
Specification, kernel-install(8). For the others the user gets instructions, because only their own
tools write their files.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from vfio_hooks.boot import Edit, Work, text_of
from vfio_hooks.boot.journal import ours, own_line
from vfio_hooks.host import Host
from vfio_hooks.record import record

_GRUB = "/etc/default/grub.d/vfio-hooks.cfg"
_GRUB_ENTRY = "/etc/grub.d/42_vfio-hooks"
_CMDLINE = "/etc/kernel/cmdline"
_ENTRIES = ("/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries")
_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""The name of the loader that started this boot, https://systemd.io/BOOT_LOADER_INTERFACE."""
_MKCONFIG = "grub-mkconfig -o /boot/grub/grub.cfg (on some systems: grub2-mkconfig, /boot/grub2)"
_FALLBACK = "aa-vfio-hooks-before"
"""The entry with the parameters from before. The first entry is booted: the one with the first sort
key or, without sort keys, the last one in the alphabet."""
_LAST_KEY = "zz-vfio-hooks"


@record
class Loader:
    """How a loader is recognised by its files, the work that gives the kernel more parameters, and
    the commands that make the loader read its files again."""

    name: str
    is_used: Callable[[Host], bool]
    work: Callable[[Host, Sequence[str]], Work]
    tools: Callable[[Host], Iterable[tuple[str, ...]]] = lambda host: ()


def without(line: str, parameters: Sequence[str]) -> str:
    """A command line without some parameters."""
    if not parameters:
        return line
    return " ".join(word for word in shlex.split(line, posix=False) if word not in parameters)


def add(line: str, parameters: Sequence[str]) -> str:
    """A command line with parameters added at its end, without those that it has already."""
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
    return Work("GRUB", edits)


def _grub_entry(host: Host) -> str:
    """A script for grub.d, which adds an entry to grub.cfg: today's kernel with today's
    parameters."""
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
        f'echo "linux $folder/vmlinuz-$release "{shlex.quote(_for_grub(own_line(host)))}\n'
        '[ ! -e "/boot/initrd.img-$release" ] || echo "initrd $folder/initrd.img-$release"\n'
        'echo "}"\n'
    )


def _for_grub(line: str) -> str:
    """A command line, escaped for GRUB. In a parameter such as pci=disable_acs_redir=A;B the ";"
    would end GRUB's own command; GRUB's 10_linux does not escape it."""
    return re.sub(r"\"[^\"]*\"|[;&|<>{}$'\\]", _escaped, line)


def _escaped(found: re.Match[str]) -> str:
    text = found[0]
    return text.replace("$", "\\$") if text.startswith('"') else f"\\{text}"


def _kernel_install(host: Host, parameters: Sequence[str]) -> Work:
    """kernel-install writes the entries anew from /etc/kernel/cmdline."""
    text = text_of(host, _CMDLINE) or own_line(host)
    edits = [_edit(host, _CMDLINE, _with_lines(text, parameters)), *_fallback(host)]
    return Work("kernel-install", tuple(edits))


def _with_lines(text: str, parameters: Sequence[str]) -> str:
    """A file of command lines with parameters at its end. Lines with "#" stay, and nothing of them
    counts: systemd 257 leaves them out, and 252 hands them on to the kernel."""
    lines = text.rstrip().split("\n")
    given = [one for one in lines if not one.lstrip().startswith("#")]
    last = lines.pop() if lines[-1:] == given[-1:] else ""
    known = shlex.split(" ".join(given), posix=False)
    lines.append(add(last, [one for one in parameters if one not in known]))
    return "\n".join(one for one in lines if one) + "\n"


def _add_kernels(host: Host) -> Iterator[tuple[str, ...]]:
    """Debian's kernels are in /boot."""
    for release in host.names("/lib/modules"):
        for image in (f"/lib/modules/{release}/vmlinuz", f"/boot/vmlinuz-{release}"):
            if host.exists(image):
                yield "kernel-install", "add", release, image
                break


def _is_kernel_install(host: Host) -> bool:
    """Whether kernel-install writes the entries: their names then have the machine's id."""
    made = any("\nmachine-id" in (text_of(host, path) or "") for path in _entries(host))
    return host.exists(_CMDLINE) or made


def _systemd_boot(host: Host, parameters: Sequence[str]) -> Work:
    """Entries that somebody wrote by hand, as on Arch: their options, and a copy of the first."""
    edits = list(_fallback(host))
    for path in _entries(host):
        text = text_of(host, path) or ""
        new = _with_options(text, lambda line: add(line, parameters))
        edits.append(Edit(path, text, new))
    return Work("systemd-boot", tuple(edits))


def _with_options(text: str, change: Callable[[str], str]) -> str:
    """An entry with other options."""
    pattern = re.compile(r"^(options[ \t]+)(.*)$", re.MULTILINE)
    return pattern.sub(lambda found: f"{found[1]}{change(found[2])}", text)


def _fallback(host: Host) -> Iterator[Edit]:
    release = host.maybe("/proc/sys/kernel/osrelease") or ""
    every = _entries(host)
    running = [path for path in every if release and release in (text_of(host, path) or "")]
    for path in (running or every)[:1]:
        folder = path.rpartition("/")[0]
        text = text_of(host, path) or ""
        own = _with_options(text, lambda line: without(line, ours(host)))
        last = re.sub(r"^sort-key[ \t].*$", f"sort-key {_LAST_KEY}", own, flags=re.M)
        named = re.sub(r"^title[ \t].*$", "title As before vfio-hooks boot", last, flags=re.M)
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


def _told(name: str, line: str, back: str) -> Callable[[Host, Sequence[str]], Work]:
    def work(host: Host, parameters: Sequence[str]) -> Work:
        def said(text: str, option: str) -> tuple[str, ...]:
            each = " ".join(f"{option}={one}" for one in parameters)
            return (text.format(words=" ".join(parameters), each=each),)

        return Work(
            name,
            told=said(line, "--append-if-missing"),
            told_back=said(back, "--delete-if-present"),
        )

    return work


def _has(*paths: str) -> Callable[[Host], bool]:
    return lambda host: any(map(host.exists, paths))


def _has_grub(*paths: str) -> Callable[[Host], bool]:
    """Whether GRUB is in use. Files may be left over on a host that systemd-boot has started."""

    def is_used(host: Host) -> bool:
        # It is UTF-16.
        started = (host.maybe(_INFO) or "").replace("\0", "")
        return _has(*paths)(host) and "systemd-boot" not in started

    return is_used


LOADERS = (
    Loader(
        "rpm-ostree",
        _has("/run/ostree-booted"),
        _told("rpm-ostree", "rpm-ostree kargs {each}", "rpm-ostree kargs {each}"),
    ),
    Loader(
        "grubby",
        _has("/usr/sbin/grubby", "/sbin/grubby"),
        _told(
            "grubby",
            'grubby --update-kernel=ALL --args="{words}"',
            'grubby --update-kernel=ALL --remove-args="{words}"',
        ),
    ),
    Loader(
        "limine",
        _has("/boot/limine.conf", "/boot/limine/limine.conf", "/etc/default/limine"),
        _told(
            "limine",
            "at the end of each line cmdline: in limine.conf, add: {words}",
            "from each line cmdline: in limine.conf, remove: {words}",
        ),
    ),
    Loader("GRUB", _has_grub("/usr/sbin/update-grub"), _grub, lambda host: [("update-grub",)]),
    Loader(
        "GRUB",
        _has_grub("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"),
        _told(
            "GRUB",
            f"in /etc/default/grub, at the end of GRUB_CMDLINE_LINUX: {{words}}; then: {_MKCONFIG}",
            f"in /etc/default/grub, remove from GRUB_CMDLINE_LINUX: {{words}}; then: {_MKCONFIG}",
        ),
    ),
    Loader("kernel-install", _is_kernel_install, _kernel_install, _add_kernels),
    Loader("systemd-boot", lambda host: bool(_entries(host)), _systemd_boot),
)
"""The first one that is in use counts, because others may have left files."""
