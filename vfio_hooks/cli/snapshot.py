"""`vfio-hooks snapshot`: the host in one file, for a report or a test."""

import argparse
import os
from collections.abc import Iterator

from vfio_hooks.cli.common import Verbs, add_paths, add_verb, paths
from vfio_hooks.cli.domains import add_sources, pick, sources
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.terminal import clean, complain, say
from vfio_hooks.domain import parse
from vfio_hooks.domain.files import DEFINED
from vfio_hooks.host import Host
from vfio_hooks.plural import counted
from vfio_hooks.snapshot.archive import pack
from vfio_hooks.snapshot.domain import domain_without
from vfio_hooks.snapshot.files import Entry, entries
from vfio_hooks.snapshot.private import Scrubber

_EPILOG = """\
The file has what this program reads from /sys and /proc, and can stand for the host: check, init
--dry-run, iommu, plan and topology take it as --root FILE. It has no MAC addresses, UUIDs or serial
numbers, and nothing about other programs. Of the kernel's command line and of modprobe's files it
has only what matters to this program. With --vm it also has a domain's XML, without passwords,
paths, network addresses, serial numbers, notes and comments. It never has the vm.toml. Look
through it before you send it: tar -tf FILE. Some things only root can read.

examples:
  sudo vfio-hooks snapshot host.tar.xz
  sudo vfio-hooks snapshot host.tar.xz --vm win11
  vfio-hooks topology --root host.tar.xz
  vfio-hooks plan win11 --root host.tar.xz --use pci,cpus
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "snapshot",
        run,
        line="put what this program reads from the host into one file",
        description="Put what this program reads from the host into one file, without "
        "anything\nprivate: for a bug report, or to try things on another machine.",
        epilog=_EPILOG,
    )
    parser.add_argument("file", metavar=FILE, help="the new archive: .tar.xz, .tar.gz or .tar")
    parser.add_argument(
        "--vm", metavar=VM, action="append", default=[], help="include this domain; repeatable"
    )
    add_sources(parser)
    add_paths(parser, "root")


def run(arguments: argparse.Namespace) -> int:
    host = paths(arguments).host()
    domains = list(_domains(arguments, host))
    if host.is_this_machine and os.geteuid():
        complain("some values can only be read by root; they are empty in the file")
    count = pack(arguments.file, _all(host, domains))
    size = os.stat(arguments.file).st_size
    what = f"{counted(count, 'file')}, {size >> 10} KiB"
    say(f"{clean(arguments.file)}: {what}; to look into it: tar -tf FILE")
    return 0


def _domains(arguments: argparse.Namespace, host: Host) -> Iterator[Entry]:
    if not arguments.vm and not arguments.xml:
        return
    found, failure = sources(arguments, host)
    if failure:
        raise failure
    scrubber = Scrubber(host)
    for one in [pick(vm, found, host) for vm in arguments.vm] or found:
        text = domain_without(one.xml, scrubber)
        name = parse(text).name.replace("/", "_")
        yield Entry(f"{DEFINED}/{name}.xml", text.decode())


def _all(host: Host, domains: list[Entry]) -> Iterator[Entry]:
    yield from domains
    yield from entries(host)
