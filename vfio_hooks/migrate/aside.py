"""Scripts that are not needed any more, set aside with a way back.

The originals go to `.migrated/` in the VM's folder, where nothing is run, with a record of where
they were and of the vm.toml that was written. A script with something left to do stays in its
place as a reduced copy, in which the lines that a table does are comments.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import WritableHost
from vfio_hooks.migrate import Script
from vfio_hooks.record import record

FOLDER = ".migrated"
_RECORD = "record.json"
_MARK = ": # vfio-hooks does this: "
# A line with one of these is a part of something larger, or has two commands.
_LARGER = re.compile(
    r"(?:^|[\s;&|(])(?:if|then|else|elif|fi|for|while|until|do|done|case|esac|function|in)(?:[\s;]|$)"
    r"|[{}()`]|;;|&&|\|\||;\s*\S|\\$|\|\s*$|<<"
)


@record
class Change:
    """What becomes of a script's file: it goes, or `text` takes its place."""

    script: Script
    text: str | None = None


def changes(scripts: Iterable[Script], home: str) -> list[Change]:
    """What can be done with the scripts in a VM's folder. One that is not understood, or that
    cannot be cut, is not among them, and stays as it is."""
    found = []
    for script in scripts:
        if not script.path.startswith(f"{home}/") or not script.is_read:
            continue
        if not script.keeps:
            found.append(Change(script))
        elif (text := _reduced(script)) is not None:
            found.append(Change(script, text))
    return found


def _reduced(script: Script) -> str | None:
    """The script with the lines that a table does made comments; None where such a line cannot be
    taken out by itself."""
    lines = script.text.split("\n")
    kept = {one.line for one in script.verdicts if one.kind == "keep"}
    if any(one.file != script.path for one in script.verdicts):
        # What it calls is another's file, too.
        return None
    for line in sorted({one.line for one in script.verdicts if one.kind != "keep"}):
        text = lines[line - 1]
        follows = line > 1 and lines[line - 2].rstrip().endswith(("\\", "|", "&&", "||"))
        if line in kept or follows or _LARGER.search(text.strip()):
            return None
        indent = text[: len(text) - len(text.lstrip())]
        lines[line - 1] = f"{indent}{_MARK}{text.strip()}"
    made = "\n".join(lines)
    return made if _is_correct(made) else None


def _is_correct(text: str) -> bool:
    try:
        done = subprocess.run(
            ["bash", "-n"], input=text.encode(), capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return not done.returncode


def carry_out(home: str, made: Sequence[Change], toml: str, vm_file: str) -> None:
    """Write vm.toml and move the scripts. The originals and the record of them are there before
    anything is changed, so `put_back` works wherever this is cut off. Raises HookError."""
    place = f"{home}/{FOLDER}"
    if os.path.lexists(place):
        raise HookError(
            f"{home} was migrated before: its scripts are in {FOLDER}",
            "undo that first, with migrate --undo, or remove that folder",
        )
    try:
        before = _text(vm_file)
        os.makedirs(f"{place}.new", mode=0o700, exist_ok=True)
        for change in made:
            _copy(change.script.path, f"{place}.new/{os.path.relpath(change.script.path, home)}")
        record = {
            "scripts": [os.path.relpath(change.script.path, home) for change in made],
            "before": before,
            "written": hashlib.sha256(toml.encode()).hexdigest(),
        }
        WritableHost("/").keep(f"{place}.new/{_RECORD}", json.dumps(record, indent=1) + "\n")
        os.rename(f"{place}.new", place)
        WritableHost("/").keep(vm_file, toml)
        for change in made:
            if change.text is None:
                os.unlink(change.script.path)
            else:
                mode = os.stat(change.script.path).st_mode & 0o777
                WritableHost("/").keep(change.script.path, change.text, mode)
    except OSError as error:
        raise HookError(f"{error.filename}: {reason(error)}", "try with sudo") from None


def put_back(home: str, vm_file: str) -> list[str]:
    """Put the scripts and vm.toml back as they were before `carry_out`; the paths of the scripts.
    A vm.toml that was changed since is kept beside. Raises HookError."""
    place = f"{home}/{FOLDER}"
    try:
        with open(f"{place}/{_RECORD}", encoding="utf-8") as file:
            record = json.load(file)
        now = _text(vm_file) or ""
        written = hashlib.sha256(now.encode()).hexdigest() == record["written"]
        if now and not written and now != record["before"]:
            os.rename(vm_file, f"{vm_file}.changed")
        if record["before"] is not None:
            WritableHost("/").keep(vm_file, record["before"])
        elif os.path.exists(vm_file):
            os.unlink(vm_file)
        for name in record["scripts"]:
            os.makedirs(os.path.dirname(f"{home}/{name}"), exist_ok=True)
            _copy(f"{place}/{name}", f"{home}/{name}")
        shutil.rmtree(place)
    except FileNotFoundError:
        raise HookError(f"{home} was not migrated: it has no {FOLDER}") from None
    except (ValueError, KeyError, TypeError):
        raise HookError(f"{place}/{_RECORD} is damaged", "move the scripts back by hand") from None
    except OSError as error:
        raise HookError(f"{error.filename}: {reason(error)}", "try with sudo") from None
    return [f"{home}/{name}" for name in record["scripts"]]


def _copy(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    shutil.copy2(source, f"{target}.new")
    os.replace(f"{target}.new", target)


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
