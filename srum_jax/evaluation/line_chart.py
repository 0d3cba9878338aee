"""A line chart as SVG, without a plotting library."""

import html
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 400, 56, 48, 16, 130
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # told apart by all eyes
_TICKS = 5


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], x_title: str, y_title: str) -> str:
    """An SVG document with one line for each series.

    Args:
      series: points (x, y) by name; at least one point in all.
      x_title: of the horizontal axis.
      y_title: of the vertical axis.
    """
    points = [point for line in series.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    high_x, high_y = (high if high > low else low + 1 for low, high in ((low_x, high_x), (low_y, high_y)))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - low_x) / (high_x - low_x), (y - low_y) / (high_y - low_y)
        return (round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
                round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _BOTTOM - _TOP), 1))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
             'font-size="12">', f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>']
    for number in range(_TICKS + 1):
        x, y = (low + number / _TICKS * (high - low) for low, high in ((low_x, high_x), (low_y, high_y)))
        (left, row), (column, bottom), (right, _) = place(low_x, y), place(x, low_y), place(high_x, y)
        parts += [f'<path d="M{left} {row}H{right}" stroke="#ddd"/>',
                  f'<text x="{left - 6}" y="{row + 4}" text-anchor="end">{y:.3g}</text>',
                  f'<text x="{column}" y="{bottom + 16}" text-anchor="middle">{x:.3g}</text>']
    for number, (name, line) in enumerate(series.items()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts += [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
                  f'<text x="{_WIDTH - _RIGHT + 10}" y="{_TOP + 14 + 18 * number}" fill="{color}">'
                  f"{html.escape(name)}</text>"]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts += [f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(x_title)}</text>',
              f'<text x="14" y="{_HEIGHT / 2}" transform="rotate(-90 14 {_HEIGHT / 2})" text-anchor="middle">'
              f"{html.escape(y_title)}</text>", "</svg>"]
    return "\n".join(parts) + "\n"
