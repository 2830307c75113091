"""The two TOML files of a VM, as typed options: its own vm.toml over the host-wide defaults.

A table in vm.toml switches a facility on. The host-wide vfio-hooks.toml switches nothing on: its
tables only give values to keys that the VM's own table of that name leaves out.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from vfio_hooks import HOST_FILE, VM_FILE, VM_FOLDERS
from vfio_hooks.config.options import keys
from vfio_hooks.config.tables import Catalogue, General, Reader, Table
from vfio_hooks.config.trust import trusted
from vfio_hooks.errors import HookError, nearest, unreadable
from vfio_hooks.plugins import Plugin
from vfio_hooks.plugins import own as own_modules
from vfio_hooks.record import field, record

BUILT_IN = Catalogue()


@record
class Config:
    """Everything that a VM's owner asked for: the tables in the order in which the plugins act, the
    keys outside of tables, the findings of `check` that are silenced, and the VM's folder, which
    may have executables."""

    tables: tuple[Table, ...] = ()
    general: General = field(default_factory=General)
    silenced: frozenset[str] = frozenset()
    folder: str = field(default="", compare=False)

    @classmethod
    def use(cls, names: Iterable[str], catalogue: Catalogue = BUILT_IN) -> "Config":
        """A configuration of empty tables, as if vm.toml held just [name] of each.

        Raises HookError for an unknown name, and for a facility whose table cannot be empty.
        """
        wanted = set(names)
        for name in sorted(wanted):
            if name not in catalogue.names:
                raise HookError(f"no facility {name!r}", nearest(name, usable(catalogue)))
        tables = []
        for name in (known for known in catalogue.names if known in wanted):
            plugin = catalogue.load(name)
            if needed := _needed(plugin):
                raise HookError(
                    f"[{name}] cannot be empty", f"write a vm.toml with its {', '.join(needed)}"
                )
            tables.append(Table(name, plugin, plugin.Options()))
        return cls(tuple(tables))


def usable(catalogue: Catalogue = BUILT_IN) -> tuple[str, ...]:
    """The facilities that `Config.use` takes, whose tables may be empty, in their order."""
    return tuple(name for name in catalogue.names if not _needed(catalogue.load(name)))


def _needed(plugin: Plugin) -> list[str]:
    return [key for key, kind in keys(plugin.Options).items() if kind.required]


def home(folder: str, vm: str) -> str | None:
    """The folder of a VM, or None if the VM is not managed. It has exactly the VM's name. Raises
    HookError if this cannot be found out."""
    if vm in ("", ".", "..") or "/" in vm or "\0" in vm:
        return None
    path = f"{folder}/{VM_FOLDERS}/{vm}"
    try:
        return path if stat.S_ISDIR(os.stat(path).st_mode) else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise unreadable(path, error) from None


def managed(folder: str) -> list[str]:
    """The names of all managed VMs. Raises OSError."""
    path = f"{folder}/{VM_FOLDERS}"
    try:
        return sorted(name for name in os.listdir(path) if os.path.isdir(f"{path}/{name}"))
    except FileNotFoundError:
        return []


def load(folder: str, vm: str, catalogue: Catalogue = BUILT_IN) -> Config | None:
    """The configuration of a VM, or None if the VM is not managed.

    Raises HookError for the first of what `examine` finds.
    """
    config, problems = examine(folder, vm, catalogue)
    if problems:
        raise problems[0]
    return config


def examine(
    folder: str, vm: str, catalogue: Catalogue = BUILT_IN
) -> tuple[Config | None, list[HookError]]:
    """The configuration of a VM, as `load` gives it, and everything that is wrong with it."""
    try:
        own_folder = home(folder, vm)
        if own_folder is None:
            return None, []
        trusted(own_folder, folder)
    except HookError as error:
        return None, [error]
    # The host-wide file has no tables for one VM's own modules.
    host_reader, reader = Reader(catalogue), Reader(_with_own(catalogue, own_folder))
    host = host_reader.read(folder, f"{folder}/{HOST_FILE}")
    own = reader.read(folder, f"{own_folder}/{VM_FILE}")
    general = {**host_reader.general(host), **reader.general(own)}
    silenced = host_reader.silenced(host) | reader.silenced(own)
    tables = reader.tables(own, host_reader.defaults(host))
    problems = host_reader.problems + reader.problems + list(_twins(tables, own.path))
    if problems:
        return None, problems
    return Config(tuple(tables), General(**general), silenced, own_folder), []


def of_text(text: str, path: str, catalogue: Catalogue = BUILT_IN) -> Config:
    """The configuration that a VM would have with this text in its file, without defaults.

    Raises HookError for the first of what is wrong with it.
    """
    import tomllib

    from vfio_hooks.config.tomlfile import TomlFile

    reader = Reader(catalogue)
    tables = reader.tables(TomlFile(path, text, tomllib.loads(text)), {})
    if reader.problems:
        raise reader.problems[0]
    return Config(tuple(tables))


def general(folder: str, vm: str) -> General:
    """A VM's keys outside of the tables: those that are right, whatever else is wrong."""
    reader = Reader(BUILT_IN)
    host = reader.read(folder, f"{folder}/{HOST_FILE}")
    own = reader.read(folder, f"{folder}/{VM_FOLDERS}/{vm}/{VM_FILE}")
    return General(**{**reader.general(host), **reader.general(own)})


def _twins(tables: Iterable[Table], path: str) -> Iterator[HookError]:
    """Errors for tables of one facility that are about the same thing, by the attribute that UNIQUE
    names."""
    seen: set[tuple[str, str]] = set()
    for table in tables:
        attribute = getattr(table.plugin, "UNIQUE", None)
        about = (table.name, getattr(table.options, attribute) if attribute else "")
        if attribute and about in seen:
            yield HookError(
                f"{path}: there are two [[{table.name}]] tables for {about[1]}",
                "give one of them another name, or leave it out",
            )
        seen.add(about)


def examine_defaults(
    folder: str, catalogue: Catalogue = BUILT_IN
) -> tuple[frozenset[str], list[HookError]]:
    """The findings that the host-wide file silences, and everything that is wrong with the file."""
    reader = Reader(catalogue)
    host = reader.read(folder, f"{folder}/{HOST_FILE}")
    reader.general(host)
    reader.defaults(host)
    return reader.silenced(host), reader.problems


def _with_own(catalogue: Catalogue, folder: str) -> Catalogue:
    """The catalogue with the modules of a VM's folder, which act after the built-in plugins."""
    own = own_modules.names(folder)
    if not own:
        return catalogue

    def load(name: str) -> Plugin:
        if name not in own:
            return catalogue.load(name)
        if name in catalogue.names:
            raise HookError(
                f"{folder}/{name}.py: {name} is the name of a built-in plugin", "rename the file"
            )
        return own_modules.load(folder, name)

    names = [*catalogue.names, *(name for name in own if name not in catalogue.names)]
    return Catalogue(names, load, own)
