"""The tables of the configuration files, validated against the plugins that they are for."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vfio_hooks import plugins
from vfio_hooks.config.options import Key, describe, fit, keys, show
from vfio_hooks.config.tomlfile import Path, TomlFile
from vfio_hooks.config.trust import trusted
from vfio_hooks.config.values import Expected, Values, construct, values_of
from vfio_hooks.errors import HookError, nearest, unreadable
from vfio_hooks.plugins import Plugin
from vfio_hooks.record import record

CHECK = "check"
"""The one table that is not a facility: findings that `vfio-hooks check` does not report."""
REQUIRED = "required"
"""A key that every table may have: false lets the VM start without what the table asks for."""


@record
class General:
    """The keys outside of the tables, in either file."""

    dry_run: bool = False
    """With true, events only log what they would change, and change nothing."""
    strict_started: bool = False
    """With true, a failure at libvirt's event `started` is reported to libvirt, which then kills
    the guest that is already running. With false it is only logged."""
    script_timeout: float = 300.0
    """How many seconds each of the VM's executables may take before it is killed."""


@record
class Table:
    """One table of vm.toml: a facility in use, and its validated options. If it is not `required`,
    its failures are only logged, and the VM starts without it."""

    name: str
    plugin: Plugin
    options: Any
    required: bool = True


@record
class Catalogue:
    """The facilities that tables can name, in the order in which they act, and how to load one.

    A plugin with MULTIPLE = True may have several tables, written [[name]]. A plugin's INSTEAD has
    keys that people look for in its table, with what to do in their place.
    """

    names: Sequence[str] = plugins.BUILT_IN
    load: Callable[[str], Plugin] = plugins.load
    implied: Sequence[str] = ()
    """Facilities that are also used without a table: a VM's own modules."""


class Reader:
    """Reads and validates files, and collects what is wrong in `problems`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.problems: list[HookError] = []

    def read(self, folder: str, path: str) -> TomlFile:
        """A file; an empty one if there is none, or if it cannot be used."""
        try:
            if _is_there(path):
                trusted(path, folder)
                if found := TomlFile.read(path):
                    return found
        except HookError as error:
            self.problems.append(error)
        return TomlFile(path, "", {})

    def general(self, file: TomlFile) -> dict[str, Any]:
        """The keys of the top level. Also checks that every table is known."""
        allowed, names = keys(General), self._catalogue.names
        found = {}
        for name, value in file.data.items():
            if name in allowed:
                try:
                    found[name] = fit(value, allowed[name].kind)
                except ValueError:
                    what = f"{name} must be {describe(allowed[name].kind)}, not {show(value)}"
                    self._wrong(file, (name,), what)
            elif name not in (*names, CHECK):
                is_table = isinstance(value, dict | list)
                what = f"table [{name}]" if is_table else f"key {show(name)} outside of the tables"
                self._wrong(
                    file,
                    (name,),
                    f"unknown {what}",
                    nearest(name, (*names, CHECK) if is_table else allowed),
                )
        return found

    def silenced(self, file: TomlFile) -> frozenset[str]:
        """The findings that [check] silences."""
        raw = file.data.get(CHECK, {})
        if not isinstance(raw, dict):
            self._wrong(file, (CHECK,), f"{CHECK} must be a table, [{CHECK}], not {show(raw)}")
        elif raw:
            # Not imported for each start of a VM, because it imports all rules.
            from vfio_hooks.check.options import Options

            expected = _expected(Options, {})
            values = self._values(file, (CHECK,), raw, expected)
            options = None if values is None else self._construct(file, (CHECK,), expected, values)
            return frozenset(options.silence if options else ())
        return frozenset()

    def defaults(self, host: TomlFile) -> dict[str, Values | None]:
        """The host-wide values, by table; None for a table that is wrong."""
        found: dict[str, Values | None] = {}
        for name in self._names_in(host):
            raw = host.data[name]
            if not isinstance(raw, dict):
                self._wrong(host, (name,), f"{name} must be a single table of defaults, [{name}]")
                found[name] = None
                continue
            plugin = self._load(name)
            if plugin is None:
                found[name] = None
                continue
            expected = _of(plugin)
            found[name] = values = self._values(host, (name,), raw, expected)
            if values is None or expected.missing(values):
                continue
            # These are complete, so the plugin's own check can run here, even for an unused table.
            if self._construct(host, (name,), expected, values) is None:
                found[name] = None
        return found

    def tables(self, own: TomlFile, defaults: Mapping[str, Values | None]) -> list[Table]:
        """A VM's own tables. Keys that they leave out come from the defaults."""
        found = []
        for name in self._names_in(own, self._catalogue.implied):
            plugin = self._load(name)
            if plugin is None:
                continue
            expected = _of(plugin)
            for path, raw in self._tables_of(own, name, plugin):
                base, values = defaults.get(name, {}), self._values(own, path, raw, expected)
                if base is None or values is None:
                    continue
                whole = {**base, **values}
                if missing := expected.missing(whole):
                    self._wrong(own, path, f"[{name}] needs {', '.join(missing)}")
                    continue
                options = self._construct(own, path, expected, whole)
                if options is not None:
                    required = whole.get(REQUIRED)
                    needed = required is None or bool(required.value)
                    found.append(Table(name, plugin, options, needed))
        return found

    def _load(self, name: str) -> Plugin | None:
        try:
            return self._catalogue.load(name)
        except HookError as error:
            self.problems.append(error)
            return None

    def _names_in(self, file: TomlFile, implied: Sequence[str] = ()) -> list[str]:
        return [name for name in self._catalogue.names if name in file.data or name in implied]

    def _tables_of(
        self, file: TomlFile, name: str, plugin: Plugin
    ) -> list[tuple[Path, Mapping[str, object]]]:
        raw = file.data.get(name, {})
        if isinstance(raw, dict):
            return [((name,), raw)]
        if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
            self._wrong(file, (name,), f"{name} must be a table, [{name}], not {show(raw)}")
            return []
        if not getattr(plugin, "MULTIPLE", False):
            self._wrong(file, (name,), f"there can be only one {name}", f"write [{name}]")
            return []
        return [((name, position), one) for position, one in enumerate(raw)]

    def _values(
        self, file: TomlFile, path: Path, raw: Mapping[str, object], expected: Expected
    ) -> Values | None:
        """The keys of one table, or None if any of them is wrong."""
        values, problems = values_of(file, path, raw, expected)
        self.problems += problems
        return None if problems else values

    def _construct(self, file: TomlFile, path: Path, expected: Expected, values: Values) -> Any:
        """The options, or None if their own check refuses them."""
        try:
            return construct(file, path, expected, values)
        except HookError as error:
            self.problems.append(error)
            return None

    def _wrong(self, file: TomlFile, path: Path, problem: str, hint: str = "") -> None:
        self.problems.append(HookError(f"{file.at(path)}: {problem}", hint))


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from None
    return True


def _expected(options: type[Any], instead: Mapping[str, str], **more: Key) -> Expected:
    general = dict.fromkeys(keys(General), "it belongs before the first table")
    return Expected(options, more, {**general, **instead})


def _of(plugin: Plugin) -> Expected:
    more = {REQUIRED: Key(bool, required=False)}
    return _expected(plugin.Options, getattr(plugin, "INSTEAD", {}), **more)
