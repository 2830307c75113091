"""A domain's XML without what is private."""

import json
import re
from typing import TYPE_CHECKING
from uuid import NAMESPACE_DNS, uuid5

from vfio_hooks.check.domain.kind import OSINFO
from vfio_hooks.domain import parse
from vfio_hooks.domain.devices import KVMFR, qemu_json
from vfio_hooks.domain.editing import remove
from vfio_hooks.domain.text import editable, serialized
from vfio_hooks.snapshot.private import GONE, Scrubber

if TYPE_CHECKING:
    from lxml.etree import _Element

_DROPPED = """
    title description sysinfo auth secret serial wwn encryption genid cookies seclabel resource
    filterref ip route portForward alias launchSecurity virtualport identity initiator snapshot
""".split()
_REMOVED = """
    passwd password username serial wwn wwpn wwnn query listen bridge dir file path socket host
    volume pool fd hostname fqdn serverName clientName connectPorts streamName profileid
""".split()
"""Attributes of any element; those with a slash are removed as well."""
_TEXTS = """
    domain/name os/type cpu/model cpu/vendor domain/on_poweroff domain/on_reboot domain/on_crash
""".split()
"""Elements whose text is kept; of others only numbers are."""
_KINDS = ("-object", "-device", "-cpu", "-machine", "-accel")
"""Options of QEMU's whose value begins with one of QEMU's own names."""
_SHARED = ("qom-type", "size", "share", "mem-path")
_NUMBERS = re.compile(r"[\d,^\s-]*")


def domain_without(xml: bytes, scrubber: Scrubber) -> bytes:
    """A domain's XML without comments, serial numbers, passwords, paths, addresses and its UUID,
    which becomes one made from its name. Raises HookError for what is no domain's XML."""
    name = parse(xml).name
    root = editable(xml)
    for one in list(root.iter()):
        tag = one.tag.rpartition("}")[2] if isinstance(one.tag, str) else ""
        # A serial console is no serial number.
        dropped = tag in _DROPPED and not (one.tag == "serial" and len(one))
        if one is not root and (dropped or not tag):
            remove(one)
            continue
        if tag == "metadata":
            _only_system(one)
        _clean(one)
    uuid = root.find("uuid")
    if uuid is not None:
        uuid.text = "-"
    text = scrubber.xml(serialized(root))
    return text.replace("<uuid>-</uuid>", f"<uuid>{uuid5(NAMESPACE_DNS, name)}</uuid>").encode()


def _only_system(metadata: "_Element") -> None:
    """Of what other programs noted, the operating system."""
    noted = [system.get("id", "") for system in metadata.iter(OSINFO)]
    for below in list(metadata):
        metadata.remove(below)
    for system in noted:
        metadata.append(metadata.makeelement(OSINFO, {"id": system}))


def _clean(one: "_Element") -> None:
    parent, before = one.getparent(), one.getprevious()
    above = "" if parent is None else parent.tag
    for attribute, value in one.items():
        if one.tag.endswith("}arg"):
            option = "" if before is None else before.get("value", "")
            one.set(attribute, _argument(str(value), option))
        elif "/" in value or attribute in _REMOVED or _is_place(one, above, str(attribute)):
            one.set(attribute, GONE)
    if f"{above}/{one.tag}" not in _TEXTS and not _NUMBERS.fullmatch(one.text or ""):
        one.text = GONE
    if (one.tail or "").strip():
        one.tail = None


def _is_place(one: "_Element", above: str, attribute: str) -> bool:
    """Whether an attribute, which elsewhere is something else, is a place of the host's here."""
    return {
        "address": one.tag != "mac",
        "name": one.tag in ("source", "host") or above == "audio",
        "dev": one.tag == "source" or above in ("interface", "audio"),
        # Of QEMU's own namespace: variables and properties.
        "value": one.tag.startswith("{"),
    }.get(attribute, False)


def _argument(value: str, before: str) -> str:
    """An argument of QEMU's: the names of its options. `before` is the argument before it."""
    if value.startswith("{"):
        try:
            words = qemu_json(value)
        except ValueError:
            return GONE
        return json.dumps({key: _kept(value, key, str(word)) for key, word in words.items()})
    first, *rest = value.split(",")
    if re.fullmatch(r"-[\w-]+", first) or (before in _KINDS and re.fullmatch(r"[\w.-]+", first)):
        options = [first]
    else:
        rest, options = [first, *rest], []
    for word in rest:
        name, _, given = word.partition("=")
        is_name = given and re.fullmatch(r"-?[\w.-]+", name)
        options.append(f"{name}={_kept(value, name, given)}" if is_name else GONE)
    return ",".join(options)


def _kept(argument: str, name: str, given: str) -> str:
    """The value of an option, where shared memory is told by it; [[shm]] makes that."""
    is_told = "memory-backend-file" in argument and name in _SHARED
    is_known = "/" not in given or given.startswith(("/dev/shm/", KVMFR))
    return given if is_told and is_known else GONE
