"""Sets scripts aside that are no longer needed, with a way back.

The originals go to `.migrated/` in the VM's folder, where nothing is run, with a record of where
they were and of the vm.toml that was written. A script that still has something to do stays in its
place as a reduced copy, in which the lines that tables replace are comments.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterable, Sequence

from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import WritableHost
from vfio_hooks.migrate import Script
from vfio_hooks.migrate.verdict import Verdict
from vfio_hooks.record import record
from vfio_hooks.shell.grammar import parse
from vfio_hooks.shell.tree import Block, For, If, Node, Pipe, Simple

FOLDER = ".migrated"
_RECORD = "record.json"
_MARK = ": # vfio-hooks does this: "
_REPLACEMENT = "\ufffd"
_CONTINUES = ("\\", "|", "&&")
# Commands on which later ones may depend, whatever a table does in their place.
_STATE = frozenset(
    """
    exit return break continue cd export local declare readonly typeset source . trap shift read
    then do done fi else elif esac mapfile readarray exec set
    """.split()
)
_IN_CASE_OF_FAILURE = ("exit", "return")


@record
class Change:
    """What happens to a script's file: it is removed, or `text` takes its place."""

    script: Script
    text: str | None = None


def changes(scripts: Iterable[Script], home: str) -> list[Change]:
    """What can be done with the scripts in a VM's folder. A script that is not understood, or that
    cannot be reduced, is left out and stays as it is."""
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
    """The script in which the lines that tables replace are comments; None if such a line cannot be
    removed by itself."""
    # A character that is not UTF-8 could not be written back as it was.
    if _REPLACEMENT in script.text:
        return None
    lines = script.text.split("\n")
    placed = [
        (one.line if one.file == script.path else one.called_at, one) for one in script.verdicts
    ]
    kept = {line for line, one in placed if one.kind == "keep"}
    goes = {line for line, one in placed if one.kind != "keep" and not _stays(line, one, kept)}
    for places in sorted({_joined(lines, line) for line in goes}):
        text = "\n".join(lines[place - 1] for place in places)
        if kept & set(places) or not _is_whole(text):
            return None
        for place in places:
            line = lines[place - 1]
            indent = line[: len(line) - len(line.lstrip())]
            lines[place - 1] = f"{indent}{_MARK if place == places[0] else '# '}{line.strip()}"
    made = "\n".join(lines)
    return made if _is_correct(made) else None


def _joined(lines: Sequence[str], line: int) -> tuple[int, ...]:
    """The numbers of the lines that form one command with this one, by what they end in."""
    first = last = line
    while first > 1 and lines[first - 2].rstrip().endswith(_CONTINUES):
        first -= 1
    while last < len(lines) and lines[last - 1].rstrip().endswith(_CONTINUES):
        last += 1
    return tuple(range(first, last + 1))


def _stays(line: int, one: Verdict, kept: Collection[int]) -> bool:
    """Whether it is a pause that the lines that stay may need: in a loop, or between them."""
    pauses = one.command.startswith("sleep") and bool(kept)
    return pauses and (one.loop or min(kept) < line < max(kept))


def _is_whole(text: str) -> bool:
    """Whether these lines are whole commands, without which the rest of the script still works."""
    body, error = parse(f"{text}\n")
    return error is None and all(map(_is_free, body))


def _is_free(node: Node) -> bool:
    """Whether a command can be left out: it sets no variable and does not steer the rest."""
    match node:
        case Simple(assignments=assignments, words=words):
            return bool(words) and not assignments and words[0].plain not in _STATE
        case Pipe(commands):
            return all(map(_is_free, commands))
        case Block(kind="||", body=(first, Simple(words=words))) if words:
            return _is_free(first) and (
                words[0].plain in _IN_CASE_OF_FAILURE or _is_free(node.body[1])
            )
        case Block(body=body) | For(body=body):
            return all(map(_is_free, body))
        case If(branches=branches):
            return all(_is_free(one) for pair in branches for part in pair for one in part)
    return False


def _is_correct(text: str) -> bool:
    try:
        done = subprocess.run(
            ["bash", "-n"], input=text.encode(), capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return not done.returncode


def carry_out(home: str, made: Sequence[Change], toml: str, vm_file: str) -> None:
    """Write vm.toml and move the scripts. The originals and their record are saved before anything
    is changed, so `put_back` works wherever this is cut off. Raises HookError."""
    place = f"{home}/{FOLDER}"
    if os.path.lexists(place):
        raise HookError(
            f"{home} was migrated before: its scripts are in {FOLDER}",
            "undo that first, with migrate --undo, or remove that folder",
        )
    try:
        before = _text(vm_file)
        os.makedirs(f"{place}.new", mode=0o700, exist_ok=True)
        for path in [change.script.path for change in made] + [vm_file] * (before is not None):
            _copy(path, f"{place}.new/{os.path.relpath(path, home)}")
        record = {
            "scripts": [os.path.relpath(change.script.path, home) for change in made],
            "before": before,
            "written": hashlib.sha256(toml.encode()).hexdigest(),
            "reduced": {os.path.relpath(one.script.path, home): one.text for one in made},
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
    """Put the scripts and vm.toml back as they were before `carry_out`. Returns the paths of the
    scripts. A file that was changed since is kept under another name. Raises HookError."""
    place = f"{home}/{FOLDER}"
    try:
        with open(f"{place}/{_RECORD}", encoding="utf-8") as file:
            record = json.load(file)
        now = _text(vm_file) or ""
        written = hashlib.sha256(now.encode()).hexdigest() == record["written"]
        if now and not written and now != record["before"]:
            os.rename(vm_file, f"{vm_file}.changed")
        if record["before"] is not None:
            _copy(f"{place}/{os.path.relpath(vm_file, home)}", vm_file)
        elif os.path.exists(vm_file):
            os.unlink(vm_file)
        for name in record["scripts"]:
            os.makedirs(os.path.dirname(f"{home}/{name}"), exist_ok=True)
            _keep_changed(f"{home}/{name}", f"{place}/{name}", record.get("reduced", {}).get(name))
            _copy(f"{place}/{name}", f"{home}/{name}")
        shutil.rmtree(place)
    except FileNotFoundError:
        raise HookError(f"{home} was not migrated: it has no {FOLDER}") from None
    except (ValueError, KeyError, TypeError):
        raise HookError(f"{place}/{_RECORD} is damaged", "move the scripts back by hand") from None
    except OSError as error:
        raise HookError(f"{error.filename}: {reason(error)}", "try with sudo") from None
    return [f"{home}/{name}" for name in record["scripts"]]


def _keep_changed(path: str, original: str, reduced: str | None) -> None:
    """Rename a script that is neither the original nor its reduced copy, so that it is not run."""
    if os.path.islink(path) or not os.path.exists(path):
        return
    known = [] if reduced is None else [reduced.encode()]
    if not os.path.islink(original):
        known.append(_bytes(original))
    if _bytes(path) not in known:
        os.chmod(path, 0o644)
        os.rename(path, f"{path}.changed")


def _copy(source: str, target: str) -> None:
    """Copy a file with its owner, its mode and its times, or a link as a link."""
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    shutil.copy2(source, f"{target}.new", follow_symlinks=False)
    there = os.lstat(source)
    os.chown(f"{target}.new", there.st_uid, there.st_gid, follow_symlinks=False)
    # That has cleared the set-user-ID and set-group-ID bits.
    if not os.path.islink(source):
        os.chmod(f"{target}.new", stat.S_IMODE(there.st_mode))
    os.replace(f"{target}.new", target)


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
