"""A report's histogram as a small SVG."""

import math

from vfio_hooks.trace.report import BOUNDS, Report

_WIDTH, _HEIGHT, _GAP = 40, 160, 6


def svg(report: Report) -> str:
    """Columns that show how many stalls were how long. Their height is logarithmic, because a few
    long stalls among thousands of short ones matter most."""
    most = max(report.histogram, default=0)
    parts = []
    for number, count in enumerate(report.histogram):
        height = round(_HEIGHT * math.log10(count + 1) / math.log10(most + 1)) if count else 0
        left, top = number * (_WIDTH + _GAP) + _GAP, 20 + _HEIGHT - height
        middle = left + _WIDTH / 2
        parts += [
            f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{height}" fill="#3b6ea5"/>',
            f'<text x="{middle:g}" y="{top - 4}" text-anchor="middle">{count or ""}</text>',
            f'<text x="{middle:g}" y="{_HEIGHT + 36}" text-anchor="middle">{_bound(number)}</text>',
        ]
    width = len(report.histogram) * (_WIDTH + _GAP) + _GAP
    title = f"stalls by their length in µs, {report.seconds:.0f} s"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT + 64}" '
        f'font-family="sans-serif" font-size="11">\n'
        + "\n".join(parts)
        + f'\n<text x="{width / 2:g}" y="{_HEIGHT + 56}" text-anchor="middle">{title}</text>\n'
        "</svg>\n"
    )


def _bound(number: int) -> str:
    return f"&lt; {BOUNDS[number]}" if number < len(BOUNDS) else f"≥ {BOUNDS[-1]}"
