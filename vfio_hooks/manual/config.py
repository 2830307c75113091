"""vfio-hooks.toml(5), out of the plugins and their options."""

import inspect

from vfio_hooks import __version__, plugins
from vfio_hooks.check.options import Options as Silence
from vfio_hooks.config.tables import CHECK, REQUIRED, General
from vfio_hooks.manual import modules
from vfio_hooks.manual.keys import describe_keys
from vfio_hooks.manual.roff import Page

_DESCRIPTION = """\
A VM is managed by vfio-hooks when the folder of its name exists below `/etc/libvirt/hooks/qemu.d`.
The file vm.toml in it says what is to be done for the VM. It is written in TOML
(https://toml.io): a table, `[name]`, switches the facility of this name on, and an empty table
stands for what the domain's XML asks for. A facility without a table is not used.

The file vfio-hooks.toml has the same tables and switches nothing on: its keys are the defaults
for the tables that VMs have. A key in vm.toml goes before one in vfio-hooks.toml.

Both files are checked as a whole when a VM starts. An unknown table or key, or a value of a wrong
type, keeps a managed VM from starting, with the file, the line, and the name that was probably
meant. `vfio-hooks validate` makes the same check.

Folders, files, modules and executables have to belong to root and be writable by nobody else.

Several VMs can share one configuration: a VM's folder, or just its vm.toml, may be a symbolic link
to another VM's. The link, where it leads, and all in between have to belong to root as well.

    ln -s win11 /etc/libvirt/hooks/qemu.d/win11-copy
"""
_REQUIRED = """\
With false the VM starts also without what the table asks for, where that fails, and the log has
a warning. Otherwise a failure keeps the VM from starting, and what was done before is undone.
"""
_EXECUTABLES = """\
Besides vm.toml a VM's folder may have executables, as VFIO-Tools made them common:

    /etc/libvirt/hooks/qemu.d/VM/prepare/begin/10-mount.sh
    /etc/libvirt/hooks/qemu.d/VM/release/end/10-umount.sh

The folders are named after the operation and the sub-operation of libvirt's event:
prepare/begin, start/begin, started/begin, stopped/end, release/end, and also migrate/begin,
restore/begin, reconnect/begin and attach/begin. In place of the inner folder may be one file.

All executable files of the folder are run one after the other, in the order of the bytes of their
names. Names that start with a full stop or end with a tilde are left out. Each gets the VM's
name, the operation, the sub-operation and libvirt's extra argument (a hyphen for none), and the
domain's XML on standard input. A script whose first line names no shell is run with bash. What
one prints goes to the systemd journal; `vfio-hooks log` shows it.

At prepare, start and started they run before the tables' changes are made, but after all of these
were found to be possible; at stopped and release after the changes are undone. What executables
change they have to undo themselves, in an executable for release/end. They must not call libvirt
or virsh, which waits for the hook.

One that exits with another code than 0 ends the event: those after it are not run. At prepare and
start the VM is then not started, and the error shows the last line that it printed on standard
error; at other events that is only logged, but see `strict_started`
above. At stopped and release all are run, even where vm.toml has become wrong since the start. One
that takes longer than `script_timeout` is killed, and has failed. With `dry_run` none is run,
unless the VM was started without.
"""
_EXAMPLES = """\
A VM with a graphics card, hugepages and pinned CPUs:

    [pci]

    [hugepages]

    [cpus]

    [irqs]
    required = false

    [governor]
    governor = "performance"
    boost = true

    [[write]]
    path = "vm.dirty_ratio"
    value = 5

Defaults for all VMs, in vfio-hooks.toml:

    script_timeout = 60.0

    [pci]
    timeout = 60.0
"""
_FILES = (
    "/etc/libvirt/hooks/vfio-hooks.toml",
    "/etc/libvirt/hooks/qemu.d/VM/vm.toml",
    "/etc/libvirt/hooks/qemu.d/VM/NAME.py",
    "/etc/libvirt/hooks/qemu.d/VM/OPERATION/SUB-OPERATION/",
)


def page() -> str:
    made = Page(
        "vfio-hooks.toml",
        5,
        f"vfio-hooks {__version__}",
        "what vfio-hooks does to the host for a VM",
    )
    made.section("SYNOPSIS")
    for path in _FILES:
        made.prose(f"`{path}`")
    made.section("DESCRIPTION")
    made.prose(_DESCRIPTION)
    made.section("KEYS OUTSIDE OF TABLES")
    describe_keys(made, General)
    made.section("TABLES")
    made.prose("Facilities act in the order in which they are here, wherever their tables stand.")
    for name in plugins.BUILT_IN:
        _table(made, name)
    made.part("Every table")
    made.item([f"`{REQUIRED}` (true or false; default: true)"], _REQUIRED)
    made.part(f"[{CHECK}]")
    made.prose("No facility: it is about the verb check, see `vfio-hooks-check`(7).")
    describe_keys(made, Silence)
    made.section("EXECUTABLES")
    made.prose(_EXECUTABLES)
    made.section("MODULES")
    modules.describe(made)
    made.section("EXAMPLES")
    made.prose(_EXAMPLES)
    made.section("SEE ALSO")
    made.prose("`vfio-hooks`(1), `vfio-hooks-check`(7), https://libvirt.org/formatdomain.html")
    return str(made)


def _table(page: Page, name: str) -> None:
    plugin = plugins.load(name)
    several = getattr(plugin, "MULTIPLE", False)
    page.part(f"[[{name}]]" if several else f"[{name}]")
    page.prose(inspect.getdoc(plugin) or "")
    describe_keys(page, plugin.Options)
