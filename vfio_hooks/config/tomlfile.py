"""A TOML file that remembers where its keys are. https://toml.io/en/v1.0.0"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfio_hooks.errors import HookError, reason

LARGEST = 1 << 20
"""No configuration has this many bytes."""

_MOST_LINES = 2000
"""Looking for a line takes time in the square of these."""

Path = tuple[str | int, ...]
"""The keys that lead to a value, and the positions in arrays: ("sriov", 0, "vlan")."""


@dataclass(frozen=True)
class TomlFile:
    """A file's name, its text and what that says."""

    path: str
    text: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: str) -> "TomlFile | None":
        """The file, or None where there is none. Raises HookError, with the line if it can."""
        text = _text(path)
        if text is None:
            return None
        try:
            return cls(path, text, tomllib.loads(text))
        except RecursionError:
            raise HookError(f"{path}: nested too deeply") from None
        except ValueError as error:
            found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
            if not found:
                raise HookError(f"{path}: not TOML: {error}") from None
            raise HookError(
                f"{path}:{found[2]}: not TOML: {found[1]} (column {found[3]})"
            ) from None

    def at(self, path: Path) -> str:
        """Where a key is, as "file:line"; the file alone where that cannot be told.

        tomllib tells no lines, so the file is parsed up to each of its lines in turn: the
        statement that ends where the key is first there is the one that made it.
        """
        lines = self.text.split("\n")
        if len(lines) > _MOST_LINES:
            return self.path
        begin = 1
        for end in range(1, len(lines) + 1):
            try:
                data = tomllib.loads("\n".join(lines[:end]) + "\n")
            except ValueError:
                continue  # in the middle of a statement of several lines
            if _has(data, path):
                return f"{self.path}:{begin}"
            begin = end + 1
        return self.path


def _text(path: str) -> str | None:
    try:
        seen = os.stat(path)
        if not stat.S_ISREG(seen.st_mode):
            raise HookError(f"{path}: not a file")
        if seen.st_size > LARGEST:
            raise HookError(f"{path}: larger than {LARGEST >> 20} MiB")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HookError(f"{path}:{line}: not UTF-8 text", "save the file as UTF-8") from None


def _has(data: Any, path: Path) -> bool:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
