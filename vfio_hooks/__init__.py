"""Prepare a host for a VM with passed-through devices, and undo exactly what was done."""

__version__ = "0.2.0"

HOOKS = "/etc/libvirt/hooks"
"""Where libvirt looks for hooks; the configuration is in the same folder."""
VM_FOLDERS = "qemu.d"
"""The folder in it that has a folder for each managed VM, with the VM's name."""
VM_FILE, HOST_FILE = "vm.toml", "vfio-hooks.toml"
"""The configuration in a VM's folder, and the host-wide one beside the hook."""
KEPT_HOOK = "qemu.kept"
"""The hook that was installed before ours; it is still run, after ours."""
STATE = "/run/vfio-hooks"
"""The folder of the journals: gone after a reboot, like everything that they undo."""

RUNNING = "/run/libvirt/qemu"
"""libvirt's own folder. It has a file NAME.xml from when it starts a VM's QEMU until that ends."""
IGNORED_SIGNALS = (13, 25)
"""SIGPIPE and SIGXFSZ: Python ignores them, and what it starts would go on doing so."""

PLANNED = ("prepare", "start", "started")
"""The operations of libvirt that may change the host. Only for these, a failure is reported to
libvirt; for "started" only if the VM's owner asked for it, because it kills the guest."""
ENDING = ("stopped", "release")
"""The operations that undo. They may come without any of the others, twice, or never."""
