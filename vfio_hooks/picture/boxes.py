"""Boxes of an SVG: their parts, and how they are put side by side or inside each other."""

from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from vfio_hooks.record import record

INK = "#1c1c1c"
PAD = 10
GAP = 6


@record
class Box:
    """A part of the picture: its size, and its SVG at a place."""

    width: int
    height: int
    paint: Callable[[int, int], Iterator[str]]


def framed(title: str, inside: Box, fill: str, size: int) -> Box:
    """A box around another, with a title at the top."""
    head = 22 if size > 11 else 18
    width = max(inside.width + 2 * PAD, wide(title, size) + 2 * PAD)

    def paint(x: int, y: int) -> Iterator[str]:
        yield rect(x, y, width, height, fill, "#9aa1ab", 1, radius=5)
        yield label(x + PAD, y + head - 5, title, size, bold=True)
        yield from inside.paint(x + PAD, y + head + 2)

    height = inside.height + head + PAD + 2
    return Box(width, height, paint)


def flowed(boxes: Sequence[Box], limit: int) -> Box:
    """Boxes side by side, in as many rows as needed, which have about the same length."""
    if not boxes:
        return Box(0, 0, lambda x, y: iter(()))
    widest = max(box.width for box in boxes)
    fit = max(1, (limit + GAP) // (widest + GAP))
    rows = -(-len(boxes) // fit)
    each = -(-len(boxes) // rows)
    return stacked([_beside(boxes[at : at + each]) for at in range(0, len(boxes), each)], GAP)


def _beside(boxes: Sequence[Box]) -> Box:
    def paint(x: int, y: int) -> Iterator[str]:
        for box in boxes:
            yield from box.paint(x, y)
            x += box.width + GAP

    width = sum(box.width for box in boxes) + GAP * (len(boxes) - 1)
    return Box(width, max(box.height for box in boxes), paint)


def stacked(boxes: Sequence[Box], gap: int) -> Box:
    shown = [box for box in boxes if box.height]

    def paint(x: int, y: int) -> Iterator[str]:
        for box in shown:
            yield from box.paint(x, y)
            y += box.height + gap

    height = sum(box.height for box in shown) + gap * max(len(shown) - 1, 0)
    return Box(max((box.width for box in shown), default=0), height, paint)


def caption(text: str, size: int, color: str = INK) -> Box:
    return Box(
        wide(text, size), size + 4, lambda x, y: iter([label(x, y + size, text, size, color)])
    )


def wide(text: str, size: int) -> int:
    """About how wide a text becomes, in pixels. The font is not known here."""
    return round(len(text) * size * 0.58)


def rect(
    x: int,
    y: int,
    width: int,
    height: int,
    fill: str,
    stroke: str = "none",
    line: float = 1,
    opacity: float = 1,
    radius: int = 0,
) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" '
        f'fill-opacity="{opacity:g}" stroke="{stroke}" stroke-width="{line:g}"/>'
    )


def label(
    x: int,
    y: int,
    text: str,
    size: int,
    color: str = INK,
    bold: bool = False,
    middle: bool = False,
    end: bool = False,
) -> str:
    anchor = "middle" if middle else "end" if end else "start"
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight} '
        f'xml:space="preserve">{safe(text)}</text>'
    )


def safe(text: str) -> str:
    """Text that is allowed in XML: names may contain anything."""
    return escape("".join(one if one.isprintable() else "?" for one in text))
