"""The manual pages, made of what the program is made of: its parser, options and docstrings.

So a page cannot tell of an option that is not there, nor leave one out.
"""

from importlib import import_module

PAGES = {
    "vfio-hooks": 1,
    "vfio-hooks.toml": 5,
    "vfio-hooks-check": 7,
    "vfio-hooks-migration": 7,
}
"""The pages, with their sections of the manual."""
_MODULES = {
    "vfio-hooks": "command",
    "vfio-hooks.toml": "config",
    "vfio-hooks-check": "check",
    "vfio-hooks-migration": "migration",
}


def page(name: str) -> str:
    """A page as man(7) reads it."""
    text: str = import_module(f"vfio_hooks.manual.{_MODULES[name]}").page()
    return text
