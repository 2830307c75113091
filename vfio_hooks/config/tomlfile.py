"""A TOML file that remembers where its keys are. https://toml.io/en/v1.0.0"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from typing import Any

from vfio_hooks.errors import HookError, unreadable
from vfio_hooks.plugins import BUILT_IN
from vfio_hooks.record import record

LARGEST = 1 << 20
"""No configuration has this many bytes."""

LONGEST = 60
"""Characters of a line or a value that are shown in an error."""

_CURLY = str.maketrans(dict.fromkeys("“”„‟«»‘’‚", '"'))
_SWITCHES = {"yes": "true", "on": "true", "true": "true"}
_SWITCHES |= {"no": "false", "off": "false", "false": "false"}
_MOST_LINES = 2000
"""The search for a line takes a time that grows with the square of these."""

Path = tuple[str | int, ...]
"""The keys that lead to a value, and the positions in arrays: ("sriov", 0, "vlan")."""


@record
class TomlFile:
    """A file's name, its text, and the text's data."""

    path: str
    text: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: str) -> "TomlFile | None":
        """The file, or None if there is none. Raises HookError, with the line if it is known."""
        text = _text(path)
        if text is None:
            return None
        try:
            # If the last line has an end, an error at the end of the file has a line, too.
            return cls(path, text, tomllib.loads(f"{text}\n"))
        except RecursionError:
            raise HookError(f"{path}: nested too deeply") from None
        except ValueError as error:
            found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
            if not found:
                raise HookError(f"{path}: not valid TOML: {error}") from None
            line = text.split("\n")[int(found[2]) - 1].strip()
            line = "".join(one if one.isprintable() else "?" for one in line)
            shown = line if len(line) <= LONGEST else line[:LONGEST] + "…"
            what = f"{_plain(found[1])} (column {found[3]}): {shown}"
            problem = f"{path}:{found[2]}: not valid TOML: {what}"
            raise HookError(problem, _advice(line)) from None

    def at(self, path: Path) -> str:
        """Where a key is, as "file:line"; only the file if the line cannot be found.

        tomllib does not report lines. So the file is parsed up to each of its lines in turn, until
        the key exists: the statement that ends there is the one with the key.
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
        raise unreadable(path, error) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HookError(f"{path}:{line}: not UTF-8 text", "save the file as UTF-8") from None


def _plain(message: str) -> str:
    """What tomllib says, in the file's own terms where it speaks of Python's."""
    if message == "Cannot overwrite a value":
        return "this key is already there further up"
    if found := re.fullmatch(r"Cannot declare \((.*)\) twice", message):
        table = ".".join(re.findall("'([^']*)'", found[1]))
        return f"[{table}] is already there further up"
    return message


def _advice(line: str) -> str:
    """What to write in place of a line that is not TOML, if it is a common mistake; else ""."""
    if found := re.match(r"(\[+[A-Za-z]\w*\]+)\s*[^\s#\]]", line):
        return f"{found[1]} must be on a line of its own"
    if line in BUILT_IN:
        return f"write [{line}]"
    straight = line.translate(_CURLY)
    if straight != line:
        return f"quotes must be straight: {straight}"
    if line.count('"') % 2:
        return 'a " is missing'
    # As in a unit's name that systemd has made of a path, mnt-my\x2ddisk.mount.
    if found := re.match(r"""([\w-]+)\s*=\s*"([^"']*\\[^btnfruU"'\\][^"']*)\"""", line):
        return f"text with a \\ needs single quotes: {found[1]} = '{found[2]}'"
    found = re.fullmatch(r"([\w-]+)\s*=\s*([^\s#'\"\[{][^#'\"]*?)\s*(#.*)?", line)
    if not found:
        return ""
    key, value = found[1], found[2]
    if value.lower() in _SWITCHES:
        return f"write {key} = {_SWITCHES[value.lower()]}"
    if re.fullmatch("0[0-7]{3}", value):
        return f'write {key} = "{value}"'
    return f'text needs quotes: {key} = "{value}"' if re.search(r"^[^\d+-]|[:/]", value) else ""


def _has(data: Any, path: Path) -> bool:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
