"""A VM's own plugin modules: the .py files of its folder, with the built-in plugins' interface.

A module is used because it is there; its table in vm.toml, of the same name, has its options.
"""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from vfio_hooks.config.trust import trusted
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.record import record
from vfio_hooks.steps import Step

_MOVED = {"vfio_hooks.host.shared": "vfio_hooks.host.shared_memory"}
"""Modules of ours that have been renamed, by their old names, which a VM's module may still use."""


@record
class NoOptions:
    """The options of a module that defines none."""


@record
class OwnPlugin:
    """A module of a VM's folder. Its failures are reported with their file and line."""

    path: str
    module: ModuleType

    @property
    def Options(self) -> type[Any]:
        options: type[Any] = getattr(self.module, "Options", NoOptions)
        return options

    @property
    def MULTIPLE(self) -> bool:
        return bool(getattr(self.module, "MULTIPLE", False))

    def plan(self, event: Event, domain: Domain, options: Any, host: Host) -> Iterator[Step]:
        """The module's steps, each checked to be one. Raises HookError."""
        try:
            for step in self.module.plan(event, domain, options, host) or ():
                if not isinstance(step, Step):
                    raise TypeError(f"plan() yielded {step!r}, which is not a Step")
                yield step
        except HookError:
            raise
        except (Exception, SystemExit) as error:
            raise _told(self.path, error) from error


def names(folder: str) -> list[str]:
    """The names of the modules in a VM's folder, sorted."""
    try:
        files = sorted(os.listdir(folder))
    except OSError:
        return []
    stems = (file.removesuffix(".py") for file in files if file.endswith(".py"))
    return [stem for stem in stems if stem.isidentifier()]


def load(folder: str, name: str) -> OwnPlugin:
    """Run a module of a VM's folder. Raises HookError if it fails, or if somebody other than root
    could have written it."""
    path = f"{folder}/{name}.py"
    trusted(path, folder)
    _add_packages()
    for old, new in _MOVED.items():
        sys.modules.setdefault(old, import_module(new))
    module = ModuleType(f"vfio_hooks_own_{name}")
    module.__file__ = path
    # The module dataclasses looks up a class's module there.
    sys.modules[module.__name__] = module
    try:
        # Not imported: an import would prefer a __pycache__, whoever wrote it, and leave one.
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise _told(path, error) from error
    if not callable(getattr(module, "plan", None)):
        raise HookError(
            f"{path}: has no plan()", "a module needs plan(event, domain, options, host)"
        )
    return OwnPlugin(path, module)


def _add_packages() -> None:
    """Let a module import installed packages. The hook itself needs none of them, and starts Python
    without them."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def _told(path: str, error: BaseException) -> HookError:
    """The failure with the last line of the module that it came through."""
    line: int | None = None
    if isinstance(error, SyntaxError):
        line = error.lineno
    frame = error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == path:
            line = frame.tb_lineno
        frame = frame.tb_next
    return HookError(f"{path}:{line or '?'}: {type(error).__name__}: {error}")
