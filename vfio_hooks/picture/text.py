"""The picture as lines of text, for a terminal of a hundred columns."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from textwrap import wrap

from vfio_hooks.host.cpulist import format_list
from vfio_hooks.host.memory import amount
from vfio_hooks.picture import words
from vfio_hooks.picture.scene import Cpu, Device, Group, Node, Scene
from vfio_hooks.plural import counted, numbered

WIDTH = 100
_CELL = 5
_LABEL = 11
_MANY_CORES = 40
"""With more cores than this, groups without a VM are folded into one line."""

Paint = Callable[[str, str], str]
"""Gives a text a style: "bold", "dim", "wrong", "note", or a VM's letter."""


def draw(scene: Scene, paint: Paint) -> Iterator[str]:
    """The lines of the picture."""
    yield from _legend(scene, paint)
    groups = [group for socket in scene.sockets for node in socket.nodes for group in node.groups]
    folds = sum(len(group.cores) for group in groups) > _MANY_CORES
    for socket in scene.sockets:
        yield ""
        yield paint(f"socket {socket.number}", "bold")
        for alike, nodes in groupby(socket.nodes, key=lambda node: folds and _is_idle(node)):
            if alike:
                yield from _folded_nodes(list(nodes), paint)
                continue
            for node in nodes:
                yield from _node(node, folds, paint)
    if scene.elsewhere:
        yield ""
        yield from _without_cpus(scene.elsewhere, paint)
    if scene.homeless:
        yield ""
        yield paint("devices whose node is unknown", "bold")
        yield from _devices(scene.homeless, paint)
    if scene.offline:
        yield ""
        yield paint(f"offline: {numbered('CPU', scene.offline)}", "dim")
    yield from _wrong(scene, paint)


def _legend(scene: Scene, paint: Paint) -> Iterator[str]:
    for vm in scene.vms:
        yield paint(_cut(f"{vm.letter}  {words.vm(vm)}", WIDTH), vm.letter)
    if any(vm.pinned for vm in scene.vms):
        vm = next(vm for vm in scene.vms if vm.pinned)
        yield paint(
            f"{vm.letter}3: vCPU 3 of {vm.letter};  e: emulator threads;  i: I/O threads;  "
            "!2: see below;  irqs: a CPU's part of all",
            "dim",
        )


def _node(node: Node, folds: bool, paint: Paint) -> Iterator[str]:
    yield " " + paint(words.node(node), "bold")
    yield from _devices(node.devices, paint)
    for alike, groups in groupby(node.groups, key=lambda group: folds and _is_unused(group)):
        if alike:
            yield from _folded(list(groups), paint)
            continue
        for group in groups:
            yield f"  {words.group(group)}"
            yield from _cores(group, paint)


def _cores(group: Group, paint: Paint) -> Iterator[str]:
    """Rows of cores side by side: the CPUs' numbers, the VMs on them, interrupts, problems."""
    widest = max(len(core) for core in group.cores)
    in_a_row = max(1, (WIDTH - _LABEL - 1) // (widest * _CELL + 1))
    # Rows have the same length, as far as possible.
    rows = -(-len(group.cores) // in_a_row)
    in_a_row = -(-len(group.cores) // rows)
    for start in range(0, len(group.cores), in_a_row):
        row = group.cores[start : start + in_a_row]
        yield _line("CPU", row, lambda cpu: (str(cpu.number), "bold"), paint)
        if any(cpu.seats for core in row for cpu in core):
            yield _line("VM", row, _seat, paint)
        if any(words.weight(cpu.interrupts) for core in row for cpu in core):
            yield _line("irqs", row, lambda cpu: (words.weight(cpu.interrupts), "dim"), paint)
        if any(cpu.wrong for core in row for cpu in core):
            yield _line("wrong", row, _marks, paint)


def _line(
    label: str,
    row: Sequence[tuple[Cpu, ...]],
    text: Callable[[Cpu], tuple[str, str]],
    paint: Paint,
) -> str:
    cells = []
    for core in row:
        parts = []
        for cpu in core:
            word, style = text(cpu)
            parts.append(paint(_cut(word, _CELL - 1).rjust(_CELL), style) if word else " " * _CELL)
        cells.append("".join(parts))
    return f"{paint(label.rjust(_LABEL - 4).ljust(_LABEL - 1), 'dim')}│{'│'.join(cells)}│"


def _seat(cpu: Cpu) -> tuple[str, str]:
    if not cpu.seats:
        return "·", "dim"
    return words.seat(cpu), cpu.seats[0].letter if len(cpu.seats) == 1 else "wrong"


def _marks(cpu: Cpu) -> tuple[str, str]:
    return words.marks(cpu.wrong), "wrong"


def _is_unused(group: Group) -> bool:
    return not any(cpu.seats or cpu.wrong for cpu in group.cpus)


def _is_idle(node: Node) -> bool:
    return not node.devices and all(map(_is_unused, node.groups))


def _folded(groups: Sequence[Group], paint: Paint) -> Iterator[str]:
    for _, alike in groupby(groups, key=words.group):
        yield from _told(" ", list(alike), paint)


def _folded_nodes(nodes: Sequence[Node], paint: Paint) -> Iterator[str]:
    if len(nodes) == 1:
        yield from _node(nodes[0], True, paint)
        return
    memory = sum(node.memory for node in nodes)
    shown = f" nodes {format_list(node.number for node in nodes)}"
    yield paint(f"{shown}  {amount(memory)}" if memory else shown, "bold")
    yield from _folded([group for node in nodes for group in node.groups], paint)


def _told(indent: str, groups: Sequence[Group], paint: Paint) -> Iterator[str]:
    cpus = [cpu for group in groups for cpu in group.cpus]
    cores = sum(len(group.cores) for group in groups)
    times = f"{len(groups)} × " if len(groups) > 1 else ""
    text = f"{times}{words.group(groups[0])}: {counted(cores, 'core')} without a VM"
    if irqs := words.weight(sum(cpu.interrupts or 0 for cpu in cpus)):
        text += f", {irqs} of the interrupts"
    everyone = format_list(cpu.number for cpu in cpus).replace(",", ", ")
    for number, line in enumerate(wrap(f"{text}, CPUs {everyone}", WIDTH - 4)):
        yield paint(f"{indent} {'  ' if number else ''}{line}", "dim")


def _without_cpus(nodes: Sequence[Node], paint: Paint) -> Iterator[str]:
    yield paint("without CPUs", "bold")
    for node in nodes:
        yield " " + words.node(node)
        yield from _devices(node.devices, paint)


def _devices(devices: Sequence[Device], paint: Paint) -> Iterator[str]:
    """A line for each device, in columns."""
    told = [words.device(one) for one in devices]
    marks = ["".join(f" !{number}" for number in one.wrong) for one in devices]
    widest = max(
        (len(rest + mark) for (*_, rest), mark in zip(told, marks, strict=True)), default=0
    )
    space = min(WIDTH - widest - 18, max((len(name) for _, name, _ in told), default=0))
    for one, (address, name, rest), mark in zip(devices, told, marks, strict=True):
        line = f"  {address}  {_cut(name, space).ljust(space)}  {rest}"
        yield paint(line, one.vms[0] if one.vms else "dim") + paint(mark, "wrong")


def _wrong(scene: Scene, paint: Paint) -> Iterator[str]:
    if scene.problems:
        yield ""
    for problem in scene.problems:
        head = f"!{problem.number}".rjust(3)
        lines = wrap(problem.text, WIDTH - 5)
        yield paint(f"{head}  {lines[0]}", problem.level)
        for line in lines[1:]:
            yield paint(f"     {line}", problem.level)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
