"""One file with a host in it: a tar, packed as its name says, with one folder at its top.

What somebody sent is unpacked with care: only folders, files and links that stay inside, and
links last, so that no file is written through one.
"""

import io
import lzma
import os
import tarfile
from collections.abc import Iterable
from typing import Literal

from vfio_hooks.errors import HookError, reason
from vfio_hooks.snapshot.files import Entry

TOP = "vfio-hooks-host"
_LARGEST = 1 << 29
_MOST = 500_000
_MODES: dict[str, Literal["w:xz", "w:gz", "w:bz2", "w"]] = {
    ".tar.xz": "w:xz",
    ".tar.gz": "w:gz",
    ".tgz": "w:gz",
    ".tar.bz2": "w:bz2",
    ".tar": "w",
}


def pack(path: str, entries: Iterable[Entry]) -> int:
    """Write an archive, and return how many entries it has. Raises HookError."""
    mode = next((mode for end, mode in _MODES.items() if path.endswith(end)), None)
    if mode is None:
        raise HookError(
            f"{path}: the kind of archive is unknown",
            "give it a name that ends in .tar.xz or .tar.gz",
        )
    count = 0
    try:
        with open(path, "xb") as file, tarfile.open(fileobj=file, mode=mode) as tar:
            for entry in entries:
                _add(tar, entry)
                count += 1
    except FileExistsError:
        raise HookError(f"{path} already exists", "remove it, or choose another name") from None
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None
    return count


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    # Nothing of who made it, and when.
    member = tarfile.TarInfo(TOP + entry.name)
    member.mode = 0o644
    if entry.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
    elif entry.text is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        data = entry.text.encode(errors="replace")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
        return
    tar.addfile(member)


def unpack(path: str, folder: str) -> str:
    """Unpack an archive into an empty folder, and return the root of the host in there.

    Raises HookError for what is no archive, and for one with anything that does not belong in it.
    """
    links: dict[str, str] = {}
    size = 0
    try:
        with tarfile.open(path) as tar:
            for number, member in enumerate(tar):
                size += member.size
                if size > _LARGEST or number > _MOST:
                    raise HookError(f"{path}: too large for a snapshot of a host")
                inside = _inside(path, folder, member.name)
                if member.issym():
                    links[inside] = member.linkname
                else:
                    _make(path, tar, member, inside)
        _link(path, folder, links)
    except tarfile.ReadError:
        # Python lists what each of its readers missed.
        raise HookError(
            f"{path}: not a snapshot of a host: it is no tar file, or it is damaged"
        ) from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise HookError(f"{path}: not a snapshot of a host: {error}") from None
    except OSError as error:
        raise HookError(f"{path}: cannot be unpacked: {reason(error)}") from None
    names = os.listdir(folder)
    deeper = os.path.join(folder, names[0]) if len(names) == 1 else folder
    return folder if "sys" in names or not os.path.isdir(deeper) else deeper


def _inside(path: str, folder: str, name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise HookError(f"{path}: {name} would be outside the folder that it is unpacked into")
    return os.path.join(folder, *parts)


def _make(path: str, tar: tarfile.TarFile, member: tarfile.TarInfo, inside: str) -> None:
    if member.isdir():
        os.makedirs(inside, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise HookError(f"{path}: {member.name} is neither a file, a folder nor a link")
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    with open(inside, "wb") as file:
        file.write(content.read())


def _link(path: str, folder: str, links: dict[str, str]) -> None:
    for inside, target in links.items():
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        os.symlink(target, inside)
    root = os.path.realpath(folder)
    for inside, target in links.items():
        # Each link for real, as the way there may lead through others.
        if os.path.commonpath([root, os.path.realpath(inside)]) != root:
            raise HookError(f"{path}: the link {target} leads out of the host")
