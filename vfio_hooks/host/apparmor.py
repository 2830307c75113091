"""What AppArmor lets a hook look at: libvirtd's own profile confines it, too."""

import os

from vfio_hooks.host import Host

# The profiles at whose processes libvirtd's own, and so a hook, may look. A look at any other is
# refused, and leaves a line of AppArmor's in the kernel log.
_VISIBLE = ("unconfined", "libvirtd", "libvirt-", "virtqemud")


def may_look(host: Host, pid: str) -> bool:
    """Whether this process, which AppArmor may confine, may look at another's files.

    A confined hook may not look at the daemon's other children, our siblings: one that has
    libvirtd's own label still may become virt-aa-helper, with a profile of its own, between this
    look and the next.
    """
    if not _is_confined(host):
        return True
    return not _is_sibling(host, pid) and _label(host, pid).startswith(_VISIBLE)


def hides(host: Host) -> bool:
    """Whether there are programs with a profile of their own, at which this process may not look:
    "snap.firefox.firefox (enforce)", "steam (unconfined)"."""
    return _is_confined(host) and any(
        (label := _label(host, pid))
        and not label.startswith(_VISIBLE)
        and not _is_sibling(host, pid)
        for pid in filter(str.isdecimal, host.names("/proc"))
    )


def _is_confined(host: Host) -> bool:
    return _label(host, "self").endswith("(enforce)")


def _is_sibling(host: Host, pid: str) -> bool:
    status = host.maybe(f"/proc/{pid}/status") or ""
    return f"\nPPid:\t{os.getppid()}\n" in status and int(pid) != os.getpid()


def _label(host: Host, pid: str) -> str:
    """The AppArmor profile of a process: "libvirtd (enforce)", "unconfined"."""
    return host.maybe(f"/proc/{pid}/attr/current") or ""
