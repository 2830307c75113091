"""What vfio-hooks.toml(5) says of tables and keys, from the plugins and their options."""

import inspect

from manual.keys import describe_keys
from manual.roff import Page
from vfio_hooks import plugins
from vfio_hooks.check.options import Options as Silence
from vfio_hooks.config.tables import General


def _general(page: Page) -> None:
    describe_keys(page, General)


def _tables(page: Page) -> None:
    for name in plugins.BUILT_IN:
        plugin = plugins.load(name)
        several = getattr(plugin, "MULTIPLE", False)
        page.part(f"[[{name}]]" if several else f"[{name}]")
        page.prose(inspect.getdoc(plugin) or "")
        describe_keys(page, plugin.Options)


def _check(page: Page) -> None:
    describe_keys(page, Silence)


PARTS = {"general": _general, "tables": _tables, "check": _check}
