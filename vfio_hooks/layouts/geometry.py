"""Where the parts of a screen are, and how they are moved so that the pointer reaches them all."""

from collections.abc import Iterator, Mapping

from vfio_hooks.record import record


@record
class Box:
    """An output's part of the screen; right and bottom are the first pixels beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    def moved(self, x: int, y: int) -> "Box":
        """The box that many pixels to the right, and further down."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def overlaps(self, other: "Box") -> bool:
        """Whether some pixel is in both."""
        return all(length > 0 for length in self._common(other))

    def touches(self, other: "Box") -> bool:
        """Whether the two share a part of an edge, or overlap. A corner is not enough."""
        across, down = self._common(other)
        return across >= 0 and down >= 0 and across + down > 0

    def _common(self, other: "Box") -> tuple[int, int]:
        across = min(self.right, other.right) - max(self.left, other.left)
        return across, min(self.bottom, other.bottom) - max(self.top, other.top)


Boxes = Mapping[str, Box]


def closed_up(boxes: Boxes) -> dict[str, Box]:
    """The boxes moved together, so that there is no empty column or row between them, and moved
    further if some would touch the rest only at a corner."""
    placed = _packed(boxes)
    while apart := sorted(placed.keys() - _joined(placed, min(placed, default=""))):
        group = _joined(placed, apart[0])
        rest = {name: box for name, box in placed.items() if name not in group}
        x, y = min(_pushes(rest, {name: placed[name] for name in group}), key=_distance)
        placed |= {name: placed[name].moved(x, y) for name in group}
    return _packed(placed)


def at_the_right_end(boxes: Boxes, box: Box) -> Box:
    """The box to the right of all others, level with the one that reaches farthest."""
    last = max(boxes.values(), key=lambda one: one.right)
    return box.moved(last.right - box.left, last.top - box.top)


def _joined(boxes: Boxes, name: str) -> set[str]:
    """The boxes that can be reached from one of them over edges, with itself."""
    found, new = set[str](), {name} & boxes.keys()
    while new:
        found |= new
        new = {
            other
            for other in boxes.keys() - found
            if any(boxes[other].touches(boxes[one]) for one in new)
        }
    return found


def _pushes(rest: Boxes, group: Boxes) -> Iterator[tuple[int, int]]:
    """All moves of a group, in pixels, after which it touches the rest and does not overlap it."""
    for one in rest.values():
        for other in group.values():
            across = _alongside(one.left, one.right, other.left, other.right)
            down = _alongside(one.top, one.bottom, other.top, other.bottom)
            for move in (
                (one.right - other.left, down),
                (one.left - other.right, down),
                (across, one.bottom - other.top),
                (across, one.top - other.bottom),
            ):
                moved = [box.moved(*move) for box in group.values()]
                if not any(box.overlaps(there) for box in moved for there in rest.values()):
                    yield move


def _alongside(start: int, stop: int, begin: int, end: int) -> int:
    """How far a span has to move until one of the two lies alongside the whole other."""
    low, high = sorted((start, stop - (end - begin)))
    return min(max(begin, low), high) - begin


def _distance(move: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    return abs(move[0]) + abs(move[1]), move


def _packed(boxes: Boxes) -> dict[str, Box]:
    """The boxes moved together, so that there is no empty column or row between them."""
    lefts = _begins({name: (box.left, box.right) for name, box in boxes.items()})
    tops = _begins({name: (box.top, box.bottom) for name, box in boxes.items()})
    return {
        name: box.moved(lefts[name] - box.left, tops[name] - box.top) for name, box in boxes.items()
    }


def _begins(spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Where each span begins once there is no gap between any of them."""
    begins, end, gap = {}, 0, 0
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        gap += max(0, start - gap - end)
        begins[name] = start - gap
        end = max(end, stop - gap)
    return begins
