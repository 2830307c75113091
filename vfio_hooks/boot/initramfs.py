"""The initramfs, which has a copy of modprobe's files."""

from vfio_hooks.host import Host

_TOOLS = (
    ("/usr/sbin/update-initramfs", ("update-initramfs", "-u", "-k", "all"), ""),
    (
        "/usr/bin/mkinitcpio",
        (),
        # It has a copy of the files, but takes no module along because of a softdep in them.
        "modconf in HOOKS, vfio_pci first in MODULES of /etc/mkinitcpio.conf; mkinitcpio -P",
    ),
    ("/usr/bin/dracut", (), 'dracut --force --regenerate-all --add-drivers "vfio-pci"'),
)


def rebuild(host: Host) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The commands that rebuild it, or lines for the user about commands that we do not run."""
    for path, command, told in _TOOLS:
        if host.exists(path):
            return ((command,) if command else ()), ((told,) if told else ())
    return (), ("rebuild your initramfs",)
