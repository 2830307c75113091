"""The domains that a verb is about: from XML files, libvirt, or the files of a captured host."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from shlex import quote

from vfio_hooks.cli import xml
from vfio_hooks.cli.metavars import FILE
from vfio_hooks.cli.terminal import complain
from vfio_hooks.domain import Domain, parse
from vfio_hooks.domain.files import DEFINED
from vfio_hooks.errors import HookError, did_you_mean
from vfio_hooks.host import Host
from vfio_hooks.record import record, replace


@record
class Defined:
    """A domain, its XML as it was read, and whether it runs, as far as that is known. `file` is the
    FILE of --xml that it comes from."""

    domain: Domain
    xml: bytes
    running: bool = False
    file: str = ""


def add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--xml",
        metavar=FILE,
        action="append",
        default=[],
        help="a domain's XML instead of libvirt's domains; \"-\": standard input; repeatable",
    )
    _add_connect(parser)


def add_domain(parser: argparse.ArgumentParser) -> None:
    """Add --xml and --connect of a verb that is about one domain."""
    parser.add_argument("--xml", metavar=FILE, help='the domain\'s XML; "-": standard input')
    _add_connect(parser)


def one_domain(arguments: argparse.Namespace, host: Host) -> Defined:
    """The domain that the argument `vm` and the options of `add_domain` mean. Raises HookError."""
    if arguments.xml is None and arguments.vm is None:
        raise HookError("which VM?", "give its name, or its XML with --xml FILE")
    if arguments.xml is None:
        return defined(arguments.vm, host, arguments.connect)
    return from_file(arguments.xml, arguments.vm)


def _add_connect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect",
        metavar="URI",
        default=xml.SYSTEM,
        help="the libvirt to ask (default: %(default)s)",
    )


def sources(
    arguments: argparse.Namespace, host: Host, tell: Callable[[str], None] = complain
) -> tuple[list[Defined], HookError | None]:
    """The domains that the options of `add_sources` mean, by name; or why libvirt cannot be
    asked, which may be no failure. A domain that cannot be read is left out, with a note through
    `tell`. Raises HookError for files of --xml that have no domain."""
    if arguments.xml:
        found = [from_file(path) for path in arguments.xml]
    elif not host.is_this_machine:
        found = captured(host, tell)
    else:
        try:
            every = xml.all_from_libvirt(arguments.connect)
        except HookError as error:
            return [], error
        found = _readable(((text, running, "libvirt") for text, running in every), tell)
    for one in found:
        for why in dict.fromkeys(one.domain.unread.values()):
            tell(f"note: {why}: going on without it")
    return sorted(found, key=lambda one: one.domain.name), None


def from_file(path: str, vm: str | None = None) -> Defined:
    """The domain in the FILE of --xml, "-" for standard input. Raises HookError, also if the domain
    does not have the name or UUID `vm`."""
    text = xml.from_file(path)
    found = _defined(text, source="standard input" if path == "-" else path)
    if vm not in (None, found.domain.name, found.domain.uuid):
        raise HookError(f"the XML is of {found.domain.name}, not of {vm}")
    return replace(found, file=path)


def defined(vm: str, host: Host, uri: str, instead: str = xml.WITH_FILE) -> Defined:
    """The one domain of this name or UUID; on a host that is files, of those captured with it.
    Raises HookError; `instead` is as for `xml.ask_libvirt`."""
    if host.is_this_machine:
        return _defined(*xml.with_state(vm, uri, instead))
    return pick(vm, captured(host), host)


def captured(host: Host, tell: Callable[[str], None] = complain) -> list[Defined]:
    """The domains in the files of a captured host, with a note for each that cannot be read."""
    names = [name for name in host.names(DEFINED) if name.endswith(".xml")]
    texts = (
        (xml.from_file(host.path(f"{DEFINED}/{name}")), False, name)
        for name in names
        if not name.startswith(".")
    )
    return _readable(texts, tell)


def _readable(
    texts: Iterable[tuple[bytes, bool, str]], tell: Callable[[str], None]
) -> list[Defined]:
    """The domains in these XMLs, each with whether it runs and where it is from."""
    found = []
    for text, running, source in texts:
        try:
            found.append(_defined(text, running, source))
        except HookError as error:
            tell(f"note: {error}: going on without it")
    return found


def pick(vm: str, found: Sequence[Defined], host: Host) -> Defined:
    """The domain of this name or UUID. Raises HookError."""
    for one in found:
        if vm in (one.domain.name, one.domain.uuid):
            return one
    names = sorted(one.domain.name for one in found)
    hint = did_you_mean(vm, names) or f"there is: {', '.join(names)}"
    if not found and host.is_this_machine:
        hint = "there is none yet; virt-manager makes one"
    elif not found:
        hint = f"make the snapshot with --vm {quote(vm)}, or give the XML with --xml FILE"
    raise HookError(f"there is no domain {vm}", hint)


def _defined(text: bytes, running: bool = False, source: str = "libvirt") -> Defined:
    try:
        return Defined(parse(text), text, running)
    except HookError as error:
        raise HookError(f"{source}: {error.problem}", error.hint) from None
