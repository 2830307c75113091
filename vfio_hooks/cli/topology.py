"""`vfio-hooks topology`: the host and its VMs as one picture."""

import argparse
from typing import Any

from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.domains import add_sources, pick, sources
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.terminal import Style, clean, paint, say, say_json
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.picture.scene import Scene, scene
from vfio_hooks.record import asdict

_STYLES: dict[str, Style] = {"bold": "bold", "dim": "dim", "wrong": "red", "note": "yellow"}
_COLORS: tuple[Style, ...] = ("green", "cyan", "magenta", "blue")
_EPILOG = """\
The columns between the lines are cores; CPUs side by side in one column are SMT siblings. Cores
under one "L3" share that cache. A number after "!" is explained below the picture. Interrupts are
those of devices, counted since boot. On a large host, caches and nodes without a VM are folded.

examples:
  vfio-hooks topology
  vfio-hooks topology win11
  vfio-hooks topology --svg host.svg           the same as a picture, for a browser
  vfio-hooks topology --xml win11.xml --root host.tar.xz
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "topology",
        run,
        line="draw CPUs, caches, nodes and devices, and where each VM is",
        description="Draw this host: sockets, NUMA nodes, L3 caches and cores, with each VM's\n"
        "vCPUs, threads and devices on them, and mark what is wrong.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="draw only this VM (default: all)")
    add_sources(parser)
    parser.add_argument("--svg", metavar=FILE, help="write the picture as an SVG file")
    add_paths(parser, "root")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    host = paths(arguments).host()
    domains, failure = sources(arguments, host)
    if arguments.vm is not None:
        if failure:
            raise failure
        domains = [pick(arguments.vm, domains, host)]
    drawn = scene(host, [(one.domain, one.running) for one in domains])
    if arguments.json:
        say_json({**_plain(asdict(drawn)), "notes": [str(failure)] if failure else []})
        return 0
    if failure:
        say(paint(f"note: {clean(str(failure))}", "yellow"))
    if arguments.svg:
        _save(arguments.svg, drawn)
        return 0
    if not drawn.vms and not failure:
        say("no VM is defined here")
    _show(drawn)
    return 0


def _show(drawn: Scene) -> None:
    from vfio_hooks.picture.text import draw

    letters = [vm.letter for vm in drawn.vms]

    def styled(text: str, style: str) -> str:
        if style in letters:
            return paint(clean(text), _COLORS[letters.index(style) % len(_COLORS)])
        return paint(clean(text), _STYLES[style])

    for line in draw(drawn, styled):
        say(line)


def _plain(value: Any) -> Any:
    """CPU sets as lists in the kernel's notation."""
    if isinstance(value, frozenset):
        return format_list(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _save(path: str, drawn: Scene) -> None:
    from vfio_hooks.picture.svg import draw

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(draw(drawn))
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None
    say(f"{path}: open it in a browser")
