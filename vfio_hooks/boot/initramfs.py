"""The initramfs, which has a copy of modprobe's files."""

from vfio_hooks.host import Host
from vfio_hooks.record import record

_TOOLS = (
    ("/usr/sbin/update-initramfs", ("update-initramfs", "-u", "-k", "all"), "", ""),
    (
        "/usr/bin/mkinitcpio",
        (),
        # It has a copy of the files, but takes no module along because of a softdep in them.
        "modconf in HOOKS, vfio_pci first in MODULES of /etc/mkinitcpio.conf; mkinitcpio -P",
        "vfio_pci out of MODULES of /etc/mkinitcpio.conf; mkinitcpio -P",
    ),
    (
        "/usr/bin/dracut",
        (),
        'dracut --force --regenerate-all --add-drivers "vfio-pci"',
        "dracut --force --regenerate-all",
    ),
)


@record
class Rebuild:
    """The commands that rebuild it, or lines for the user about commands that we do not run: for
    new lines of modprobe, and to take these back."""

    commands: tuple[tuple[str, ...], ...] = ()
    told: tuple[str, ...] = ()
    told_back: tuple[str, ...] = ()


def rebuild(host: Host) -> Rebuild:
    """How this host's initramfs is rebuilt."""
    for path, command, *lines in _TOOLS:
        if host.exists(path):
            there, back = ((line,) if line else () for line in lines)
            return Rebuild((command,) if command else (), there, back)
    unknown = ("rebuild your initramfs",)
    return Rebuild((), unknown, unknown)
