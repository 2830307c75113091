"""Where the verbs get a domain's XML from: libvirt, a file or standard input."""

import re
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from vfio_hooks.domain.tree import LARGEST
from vfio_hooks.errors import HookError, nearest, reason

if TYPE_CHECKING:
    import libvirt

SYSTEM = "qemu:///system"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECONDS = 20
"""How long libvirt may take. It answers late, or never, while a hook of the VM is running."""
_NO_ANSWER = (
    "systemctl start libvirtd.socket (or virtqemud.socket, if that is installed); if it runs, "
    "make sure that you are in the group libvirt"
)
WITH_FILE = "give the XML with --xml FILE"
"""For the hints of verbs that have that option."""
_OF_USER = (
    "passthrough needs qemu:///system: a VM of a user's own libvirt, such as one of virt-manager's "
    "flatpak, has to be defined there"
)
Answer = TypeVar("Answer")


def from_file(path: str) -> bytes:
    """The XML in a file, "-" for standard input. Raises HookError."""
    try:
        if path == "-":
            if sys.stdin.isatty():
                raise HookError(
                    "the domain's XML is read from standard input, which is a terminal",
                    "add: < domain.xml",
                )
            return sys.stdin.buffer.read(LARGEST + 1)
        with open(path, "rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise HookError(f"{path}: cannot be read: {reason(error)}") from None


def with_state(vm: str, uri: str = SYSTEM, instead: str = WITH_FILE) -> tuple[bytes, bool]:
    """The XML that a domain's next start will use, by its name or UUID, and whether it runs.
    Raises HookError; `instead` is as for `ask_libvirt`."""
    return ask_libvirt(lambda connection: _described(find(connection, vm)), uri, instead=instead)


def all_from_libvirt(uri: str = SYSTEM) -> list[tuple[bytes, bool]]:
    """The XML of every defined domain, and whether it runs. Raises HookError."""
    return ask_libvirt(
        lambda connection: [_described(domain) for domain in connection.listAllDomains()], uri
    )


def ask_libvirt(
    question: "Callable[[libvirt.virConnect], Answer]",
    uri: str = SYSTEM,
    write: bool = False,
    instead: str = WITH_FILE,
) -> Answer:
    """What a function of a connection returns. Raises HookError, also when libvirt is late; its
    hint says what can be done `instead` of asking libvirt."""
    answers: list[Answer | HookError] = []

    def ask() -> None:
        try:
            answers.append(_ask(question, uri, write, instead))
        except HookError as error:
            answers.append(error)

    # A thread of its own, as no signal interrupts a call of libvirt's library.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS)
    if not answers:
        raise HookError(f"libvirt has not answered within {_SECONDS} s", instead)
    if isinstance(answers[0], HookError):
        raise answers[0]
    return answers[0]


def _ask(
    question: "Callable[[libvirt.virConnect], Answer]", uri: str, write: bool, instead: str
) -> Answer:
    try:
        import libvirt
    except ImportError as error:
        raise HookError(
            f"libvirt cannot be asked: {error}", f"install python3-libvirt, or {instead}"
        ) from None
    # Otherwise the library itself prints every error.
    libvirt.registerErrorHandler(lambda *_: None, None)
    hint = f"{_NO_ANSWER}; or {instead}"
    try:
        with libvirt.open(uri) if write else libvirt.openReadOnly(uri) as connection:
            hint = ""
            return question(connection)
    except libvirt.libvirtError as error:
        raise HookError(f"libvirt at {uri}: {error}", hint) from None


def _described(domain: "libvirt.virDomain") -> tuple[bytes, bool]:
    import libvirt

    text: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return text.encode(), bool(domain.isActive())


def find(connection: "libvirt.virConnect", vm: str) -> "libvirt.virDomain":
    """The domain of a name or UUID. Raises HookError."""
    domains = {domain.name(): domain for domain in connection.listAllDomains()}
    if vm not in domains and _UUID.fullmatch(vm):
        domains = {domain.UUIDString().lower(): domain for domain in domains.values()}
        vm = vm.lower()
    if vm not in domains:
        raise HookError(f"libvirt knows no domain {vm}", nearest(vm, domains) or _OF_USER)
    return domains[vm]
