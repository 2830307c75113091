"""What the host was booted with: the kernel's command line, and modprobe's configuration.

https://docs.kernel.org/admin-guide/kernel-parameters.html, modprobe.d(5)
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")


def parameters(host: Host) -> list[tuple[str, str]]:
    """The words of the kernel's command line as (name, value), in order; "" for no value. Dashes in
    names become underscores, as they do for the kernel."""
    return words(host.maybe("/proc/cmdline") or "")


def words(line: str) -> list[tuple[str, str]]:
    """The same for the text of a command line."""
    found = re.findall(r'(?:[^\s"]|"[^"]*")+', line)
    pairs = (word.replace('"', "").partition("=") for word in found)
    return [(name.replace("-", "_"), value) for name, _, value in pairs]


def values(host: Host, name: str) -> list[str]:
    """All values of a parameter on the command line, in order."""
    return [value for known, value in parameters(host) if known == name]


def modprobe(host: Host) -> list[tuple[str, list[str]]]:
    """The lines of modprobe's configuration, as the file and its words, in modprobe's order: by the
    files' names, whatever folder they are in."""
    files: dict[str, str] = {}
    for folder in _FOLDERS:
        for name in host.names(folder):
            # A file hides files with the same name in later folders.
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    paths = [files[name] for name in sorted(files)]
    return [(path, line) for path in paths for line in lines(host.maybe(path) or "")]


def lines(text: str) -> list[list[str]]:
    """The words of each line of such a file."""
    whole = text.replace("\\\n", " ").splitlines()
    return [line.split() for line in whole if line.strip() and not line.lstrip().startswith("#")]


def module_options(host: Host, module: str) -> list[tuple[str, str, str]]:
    """The options with which a module is loaded, as (option, value, where that is written). Of the
    same option the first one counts: modprobe hands on all of them, those of the kernel's command
    line as the last, and a module takes the last."""
    module = module.replace("-", "_")
    found: list[tuple[str, str, str]] = []
    for path, words in modprobe(host):
        if words[0] == "options" and words[1:2] and words[1].replace("-", "_") == module:
            pairs = (word.partition("=") for word in words[2:])
            found += [(name, value, path) for name, _, value in pairs]
    found += [
        (name.partition(".")[2], value, "the kernel's command line")
        for name, value in parameters(host)
        if name.startswith(f"{module}.")
    ]
    return found[::-1]


def module_parameter(host: Host, module: str, name: str) -> str | None:
    """A loaded module's parameter as it is now; None if it cannot be seen."""
    return host.maybe(f"/sys/module/{module}/parameters/{name}")


def release(host: Host) -> tuple[int, int]:
    """The version of the running kernel, as (6, 12); (0, 0) if it is not known."""
    found = re.match(r"(\d+)\.(\d+)", host.maybe("/proc/sys/kernel/osrelease") or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)
