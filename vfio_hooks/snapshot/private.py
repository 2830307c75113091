"""What nobody else needs to know of a host, and how it is taken out.

Texts that people write (the kernel's command line, modprobe's files) may have anything in them,
a password as well, so of these only what is known to be needed is kept. What the kernel writes is
kept but for addresses that are one machine's.
"""

import re
from itertools import takewhile

from vfio_hooks.host import Host, boot

_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b")
_MAC_IN_NAME = re.compile(r"\b(en|wl|ww)x[0-9a-f]{12}\b")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_ADDRESS = re.compile(r"\b(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}\b")
GONE = "removed"
BOOT_PARAMETERS = frozenset(
    """
    amd_iommu intel_iommu iommu intremap nox2apic video pcie_acs_override pcie_aspm clocksource tsc
    hugepages hugepagesz default_hugepagesz transparent_hugepage isolcpus nohz_full rcu_nocbs
    irqaffinity mitigations cgroup_disable systemd.unified_cgroup_hierarchy modprobe.blacklist
    """.split()
)
"""Those whose values are kept: rules ask for them, or tell people to change them."""
MODULES = re.compile(r"(?:vfio|kvm)[\w-]*")
"""The modules whose options are kept."""
_OPTION = re.compile(r"\w+=[\w:,.-]*")
_MODULE = re.compile(r"[\w-]+:?")


class Scrubber:
    """Takes MAC addresses, UUIDs, network addresses and the host's name out of texts."""

    def __init__(self, host: Host) -> None:
        name = (host.maybe("/proc/sys/kernel/hostname") or "").partition(".")[0]
        # LVM doubles the dashes of a name.
        name = "-{1,2}".join(map(re.escape, name.split("-"))) if len(name) > 2 else ""
        # "localhost" is nobody's, and a name of a letter or two would be found everywhere.
        self._host = re.compile(rf"\b{name}\b", re.IGNORECASE) if name else None

    def name(self, path: str) -> str:
        """The name of a file, or where a link leads."""
        return _MAC_IN_NAME.sub(r"\1x000000000000", path)

    def text(self, path: str, text: str) -> str:
        """The text of the file at a path."""
        if path == "/proc/cmdline":
            text = _boot_line(text)
        elif path == "/proc/swaps":
            text = _swaps(text)
        elif "/modprobe.d/" in path or path.endswith("/modules.softdep"):
            text = "".join(f"{line}\n" for line in map(_modprobe, boot.lines(text)) if line)
        elif path.startswith("/etc/"):
            text = _named_modules(text)
        text = _MAC.sub("00:00:00:00:00:00", self.name(text))
        return _UUID.sub("00000000-0000-0000-0000-000000000000", text)

    def xml(self, text: str) -> str:
        """The XML of a domain, which names hosts as well."""
        text = _ADDRESS.sub("0.0.0.0", self.text("", text))
        return self._host.sub("host", text) if self._host else text


def _boot_line(text: str) -> str:
    """Values of the known parameters, and the names of those that have other values."""
    kept = []
    for name, value in boot.words(text):
        if name in BOOT_PARAMETERS or MODULES.fullmatch(name.partition(".")[0]):
            kept.append((f'{name}="{value}"' if " " in value else f"{name}={value}").rstrip("="))
        elif value and re.fullmatch(r"[\w.]+", name):
            kept.append(f"{name}={GONE}")
    return " ".join(kept) + "\n"


def _swaps(text: str) -> str:
    """The table without the names."""
    head, *rows = text.splitlines() or [""]
    return "\n".join([head, *(" ".join([GONE, *row.split()[-4:]]) for row in rows)]) + "\n"


def _modprobe(words: list[str]) -> str:
    """A line of modprobe.d: options of known modules, and which modules are before others or
    kept away. No command, and no comment after it."""
    kind, *rest = words
    modules = list(takewhile(_MODULE.fullmatch, rest))
    if kind in ("softdep", "blacklist"):
        return " ".join([kind, *modules])
    if kind != "options" or not modules:
        return ""
    given = takewhile(lambda word: not word.startswith("#"), rest[1:])
    pattern = _OPTION if MODULES.fullmatch(modules[0]) else re.compile(r"max_vfs=[\d,]*")
    return " ".join([kind, modules[0], *filter(pattern.fullmatch, given)])


def _named_modules(text: str) -> str:
    """Of a list of modules to load, or a script that has one, the modules that are known."""
    lines = (MODULES.findall(line.partition("#")[0]) for line in text.splitlines())
    return "".join(f"{' '.join(found)}\n" for found in lines if found)
