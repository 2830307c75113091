"""Giving a domain improved XML: the changes are shown, the old XML is kept, and libvirt gets the
new one after asking."""

import difflib
import os
import re
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from vfio_hooks.cli import xml
from vfio_hooks.cli.terminal import CHANGES, clean, paint, say
from vfio_hooks.errors import HookError, reason

if TYPE_CHECKING:
    import libvirt

BACKUPS = "/var/lib/vfio-hooks"
_PASSWORD = re.compile(r"passwd=('[^']*'|\"[^\"]*\")")


def whole_xml(vm: str, uri: str = xml.SYSTEM) -> bytes:
    """The XML that a domain's next start will use, with its passwords. libvirt leaves these out
    unless asked, and a domain that is defined without them loses them. Needs root. Raises
    HookError."""
    return xml.ask_libvirt(lambda connection: _whole(xml.find(connection, vm)), uri, write=True)


def redefine(
    vm: str,
    old: bytes,
    new: bytes,
    *,
    yes: bool = False,
    uri: str = xml.SYSTEM,
) -> bool:
    """Have libvirt take `new` for the next start of the domain whose `whole_xml` was `old`.

    The difference is printed, and the user is asked unless `yes` is set. The old XML is kept in
    BACKUPS. Returns whether the domain has the new XML. Raises HookError, also for a domain that
    somebody else changed in the meantime.
    """
    show_difference(old, new)
    if old == new:
        return True
    if not yes and not ask(f"define {vm} like this?"):
        say("nothing was changed")
        return False
    kept = keep(vm, old)

    def define(connection: "libvirt.virConnect") -> None:
        if _whole(xml.find(connection, vm)) != old:
            raise HookError(f"{vm} has been changed by somebody else in the meantime", "try again")
        _define(connection, old.decode(), new.decode())

    xml.ask_libvirt(define, uri, write=True)
    say(f"{clean(vm)} is redefined; its next start uses the new XML, and the old one is in {kept}")
    return True


def show_difference(old: bytes, new: bytes) -> None:
    """Print what changes, as diff does, without passwords."""
    before, after = (
        _PASSWORD.sub("passwd='…'", text.decode(errors="replace")).splitlines()
        for text in (old, new)
    )
    for line in list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]:
        text, style = clean(line), CHANGES.get(line[:1])
        say(paint(text, style) if style else text)


def ask(question: str) -> bool:
    """Whether the user answers yes. Raises HookError if nobody can be asked."""
    if not sys.stdin.isatty():
        raise HookError(f"{question} There is no terminal to ask on", "add --yes")
    try:
        return input(f"{clean(question)} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _define(connection: "libvirt.virConnect", old: str, new: str) -> None:
    """Define a domain that libvirt finds valid."""
    import libvirt

    checked = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    try:
        connection.defineXMLFlags(new, checked)
        return
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_XML_INVALID_SCHEMA:
            raise
        failure = error
    # libvirt keeps some XML that its own schema does not know, such as lines of <hyperv> in the
    # mode passthrough. If the XML that it has now is not valid either, the new one is not to blame.
    try:
        connection.defineXMLFlags(old, checked)
    except libvirt.libvirtError:
        connection.defineXMLFlags(new, 0)
    else:
        raise failure


def _whole(domain: "libvirt.virDomain") -> bytes:
    import libvirt

    if not domain.isPersistent():
        raise HookError(
            f"{domain.name()} is transient: it disappears with its XML when it ends",
            "virsh define it first",
        )
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    text: str = domain.XMLDesc(flags)
    return text.encode()


def keep(name: str, text: bytes, folder: str = "") -> str:
    """Put XML aside, in BACKUPS or another folder, and return where. Raises HookError."""
    folder = folder or BACKUPS
    prefix = f"{name.replace('/', '_')}-{time.strftime('%Y%m%d-%H%M%S')}-"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # For its owner alone: there may be passwords in it.
        descriptor, path = tempfile.mkstemp(".xml", prefix, folder)
        with open(descriptor, "wb") as file:
            file.write(text)
    except OSError as error:
        raise HookError(f"{folder}: the old XML cannot be saved: {reason(error)}") from None
    return path
