"""What nobody else needs to know of a host or a domain, and how it is taken out."""

import re
from typing import TYPE_CHECKING
from uuid import NAMESPACE_DNS, uuid5

from vfio_hooks.check.editing import remove
from vfio_hooks.check.layout import editable, written
from vfio_hooks.domain import parse
from vfio_hooks.host import Host

if TYPE_CHECKING:
    from lxml.etree import _Element

_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b")
_MAC_IN_NAME = re.compile(r"\b(en|wl|ww)x[0-9a-f]{12}\b")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_ADDRESS = re.compile(r"\b(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}\b")
_WRITTEN_BY_PEOPLE = ("/proc/cmdline", "/proc/swaps", "/etc/")
GONE = "removed"
_SECRETS = ("passwd", "password", "username", "serial", "wwn", "wwpn", "wwnn")
_PLACES = ("file", "dev", "dir", "path", "socket", "name", "volume", "pool", "fd", "address")
_DROPPED = "title description metadata sysinfo auth secret serial wwn encryption genid".split()


class Scrubber:
    """Takes MAC addresses, UUIDs, network addresses and the host's name out of texts."""

    def __init__(self, host: Host) -> None:
        name = (host.maybe("/proc/sys/kernel/hostname") or "").partition(".")[0]
        # "localhost" is nobody's, and a name of a letter or two would be found everywhere.
        self._host = re.compile(rf"\b{re.escape(name)}\b") if len(name) > 2 else None

    def name(self, path: str) -> str:
        """The name of a file, or where a link leads."""
        return _MAC_IN_NAME.sub(r"\1x000000000000", path)

    def text(self, path: str, text: str) -> str:
        """The text of the file at a path."""
        text = _MAC.sub("00:00:00:00:00:00", self.name(text))
        text = _UUID.sub("00000000-0000-0000-0000-000000000000", text)
        if path.startswith(_WRITTEN_BY_PEOPLE):
            text = _ADDRESS.sub("0.0.0.0", text)
            text = self._host.sub("host", text) if self._host else text
        if path.startswith("/etc/"):
            text = "".join(
                f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("#")
            )
        return text


def domain_without(xml: bytes, scrubber: Scrubber) -> bytes:
    """A domain's XML without comments, serial numbers, passwords, paths, addresses and its UUID,
    which becomes one made from its name. Raises HookError for what is no domain's XML."""
    name = parse(xml).name
    root = editable(xml)
    for one in list(root.iter()):
        if not isinstance(one.tag, str):
            remove(one)
        elif one.tag.rpartition("}")[2] in _DROPPED and one is not root:
            # A serial console is no serial number.
            if one.tag != "serial" or len(one) == 0:
                remove(one)
        else:
            _clean(one)
    uuid = root.find("uuid")
    if uuid is not None:
        uuid.text = "-"
    text = scrubber.text("/etc/libvirt", written(root, xml).decode())
    return text.replace("<uuid>-</uuid>", f"<uuid>{uuid5(NAMESPACE_DNS, name)}</uuid>").encode()


def _clean(one: "_Element") -> None:
    for attribute in list(one.keys()):
        places = one.tag in ("source", "host", "rom") and attribute in _PLACES
        if attribute in _SECRETS or places:
            one.set(attribute, GONE)
    if one.tag in ("nvram", "kernel", "initrd", "dtb", "cmdline") and one.text:
        one.text = GONE
    value = one.get("value") or ""
    if one.tag.endswith(("}arg", "}env")) and re.search(r"/|secret|passw", value):
        one.set("value", GONE)
