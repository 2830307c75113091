"""The picture as one SVG file: boxes in boxes, a colour for each VM, red for what is wrong.

It has no scripts, no fonts and no external files: https://www.w3.org/TR/SVG11/. A browser shows a
box's `<title>` under the pointer.
"""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from vfio_hooks.host.cpulist import format_list
from vfio_hooks.picture import words
from vfio_hooks.picture.boxes import (
    GAP,
    PAD,
    Box,
    caption,
    flowed,
    framed,
    label,
    rect,
    safe,
    stacked,
    wide,
)
from vfio_hooks.picture.scene import Cpu, Device, Group, Node, Scene, Socket
from vfio_hooks.plural import numbered

_COLORS = ("#9fd0f5", "#b8e29b", "#f8cf8d", "#d6bdf2", "#f7b6c6", "#a5e0d8")
_FREE, _RED, _GREY, _BAR = "#ffffff", "#c8102e", "#5f6570", "#e07b00"
_WIDE = 1420
"""How wide a row of boxes may become, in pixels."""
_CELL, _TALL = 36, 54


def draw(scene: Scene) -> str:
    """The whole file."""
    pen = _Pen(scene)
    sockets = flowed([pen.socket(socket) for socket in scene.sockets], _WIDE)
    whole = stacked([pen.legend(), sockets, *pen.rest(), pen.problems()], 16)
    width, height = max(whole.width, 640) + 40, whole.height + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *whole.paint(20, 20),
            "</svg>\n",
        ]
    )


class _Pen:
    """Draws the parts of one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._color = {
            vm.letter: _COLORS[number % len(_COLORS)] for number, vm in enumerate(scene.vms)
        }
        self._name = {vm.letter: vm.name for vm in scene.vms}
        cpus = [
            cpu
            for socket in scene.sockets
            for node in socket.nodes
            for group in node.groups
            for cpu in group.cpus
        ]
        self._most = max((cpu.interrupts or 0 for cpu in cpus), default=0)

    def legend(self) -> Box:
        lines = [self._entry(vm.letter, words.vm(vm)) for vm in self._scene.vms]
        if not lines:
            lines.append(caption("No VM is defined here.", 13))
        keys = "A3: vCPU 3 of A   e: its emulator threads   i: its I/O threads   pale: no vCPU"
        if self._most:
            share = words.weight(self._most) or "less than 0.1%"
            keys += f"   orange bar: interrupts (the longest is {share} of all)"
        return stacked([*lines, caption(keys, 11, _GREY)], 6)

    def _entry(self, letter: str, text: str) -> Box:
        def paint(x: int, y: int) -> Iterator[str]:
            yield rect(x, y, 26, 18, self._color[letter], "#808080")
            yield label(x + 13, y + 13, letter, 12, bold=True, middle=True)
            yield label(x + 36, y + 14, text, 14)

        return Box(36 + wide(text, 14), 18, paint)

    def socket(self, socket: Socket) -> Box:
        nodes = flowed([self.node(node) for node in socket.nodes], _WIDE)
        return framed(f"Socket {socket.number}", nodes, "#eceff3", 15)

    def node(self, node: Node) -> Box:
        groups = flowed([self.group(group) for group in node.groups], _WIDE - 2 * PAD)
        devices = [self.device(one) for one in node.devices]
        title = words.node(node).replace("node", "Node", 1)
        return framed(title, stacked([groups, *devices], GAP), "#f8f9fb", 13)

    def rest(self) -> Iterator[Box]:
        """Boxes for nodes without CPUs, devices without a node, and offline CPUs."""
        if self._scene.elsewhere:
            nodes = flowed([self.node(node) for node in self._scene.elsewhere], _WIDE)
            yield framed("Without CPUs", nodes, "#eceff3", 15)
        if self._scene.homeless:
            devices = stacked([self.device(one) for one in self._scene.homeless], GAP)
            yield framed("At no known node", devices, "#eceff3", 15)
        if self._scene.offline:
            yield caption(f"Offline: {numbered('CPU', self._scene.offline)}", 13, _GREY)

    def problems(self) -> Box:
        lines = []
        for problem in self._scene.problems:
            color = _RED if problem.level == "wrong" else "#8a5a00"
            for number, line in enumerate(wrap(problem.text, 150)):
                head = "      " if number else f"!{problem.number}  "
                lines.append(caption(head + line, 14, color))
        return stacked(lines, 4)

    def group(self, group: Group) -> Box:
        cores = flowed([self.core(core) for core in group.cores], 8 * (2 * _CELL + GAP) + 8)
        return framed(words.group(group), cores, "#e3ecf7" if group.size else "#f0f0f0", 11)

    def core(self, core: Sequence[Cpu]) -> Box:
        def paint(x: int, y: int) -> Iterator[str]:
            for number, cpu in enumerate(core):
                yield from self._cpu(cpu, x + number * _CELL, y)
            yield rect(x, y, len(core) * _CELL, _TALL, "none", "#4a4a4a", 1.2)
            for number, cpu in enumerate(core):
                if cpu.wrong:
                    yield rect(x + number * _CELL + 1, y + 1, _CELL - 2, _TALL - 2, "none", _RED, 2)

        return Box(len(core) * _CELL, _TALL, paint)

    def _cpu(self, cpu: Cpu, x: int, y: int) -> Iterator[str]:
        seat = words.seat(cpu)
        many = len(cpu.seats) > 1
        fill, pale = _FREE, False
        if cpu.seats:
            fill = "#ee9a9a" if many else self._color[cpu.seats[0].letter]
            pale = not any(one.vcpus for one in cpu.seats)
        yield f"<g><title>{safe(self._told(cpu))}</title>"
        yield rect(x, y, _CELL, _TALL, fill, "#a8adb5", 0.8, 0.45 if pale else 1)
        yield label(x + 4, y + 11, str(cpu.number), 9, _GREY)
        if cpu.wrong:
            marks = words.marks(cpu.wrong)
            yield label(x + _CELL // 2, y + 41, marks, 9, _RED, bold=True, middle=True)
        if seat:
            yield label(
                x + _CELL // 2, y + 27, seat, 12 if len(seat) < 5 else 10, bold=True, middle=True
            )
        if self._most and cpu.interrupts:
            width = max(1, round((_CELL - 8) * cpu.interrupts / self._most))
            yield rect(x + 4, y + _TALL - 8, width, 4, _BAR)
        yield "</g>"

    def _told(self, cpu: Cpu) -> str:
        parts = [f"CPU {cpu.number}"]
        for one in cpu.seats:
            what = [f"vCPU {format_list(one.vcpus)}"] if one.vcpus else []
            what += ["emulator"] if one.emulator else []
            what += [f"I/O thread {format_list(one.iothreads)}"] if one.iothreads else []
            parts.append(f"{self._name[one.letter]}: {', '.join(what)}")
        if irqs := words.weight(cpu.interrupts):
            parts.append(f"{irqs} of the interrupts")
        return "; ".join(parts)

    def device(self, device: Device) -> Box:
        address, name, rest = words.device(device, self._name.__getitem__)
        marks = "".join(f" !{number}" for number in device.wrong)
        name = name if len(name) < 60 else name[:59] + "…"
        fill = self._color[device.vms[0]] if device.vms else "#dadde2"
        second = f"{address}, {rest}"

        def paint(x: int, y: int) -> Iterator[str]:
            border = _RED if device.wrong else "#808080"
            yield rect(x, y, width, 40, "#ffffff", border, 2 if device.wrong else 0.8)
            yield rect(x, y, 8, 40, fill)
            yield label(x + 16, y + 16, name, 12, bold=True)
            yield label(x + 16, y + 32, second, 11, _GREY)
            if marks:
                yield label(x + width - 8, y + 16, marks.strip(), 12, _RED, bold=True, end=True)

        width = max(wide(name, 12) + 60, wide(second, 11)) + 30
        return Box(width, 40, paint)
