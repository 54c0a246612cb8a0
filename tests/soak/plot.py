"""A plot of memory over time, as SVG."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

MEBI = 2**20
_WIDTH, _HEIGHT = 900, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 110, 30, 45
_COLOURS = ("#1b6ca8", "#c0392b", "#2d8a4e", "#8e5ea2")
_STYLE = "font-family='sans-serif' font-size='12' fill='#333'"

Point = Tuple[float, float]


def svg(lines: Dict[str, Sequence[Point]], marks: Sequence[float], title: str) -> str:
    """A picture of lines over minutes, in MiB from 0.

    Args:
        lines: by name, points of (seconds, bytes).
        marks: seconds at which a thin upright line stands.
        title: stands above.
    """
    frame = _Frame(lines)
    parts = [_text(_LEFT, 20, title), *frame.grid()]
    parts += [frame.mark(at) for at in marks]
    for colour, (name, points) in zip(_COLOURS, lines.items()):
        parts.append(frame.line(points, colour))
        parts.append(frame.label(points[-1], name, colour))
    size = f"width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}'"
    back = f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>"
    body = "\n".join([back, *parts])
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>\n{body}\n</svg>\n"


class _Frame:
    """Where things stand in the picture."""

    def __init__(self, lines: Dict[str, Sequence[Point]]) -> None:
        points = [point for line in lines.values() for point in line]
        self._minutes = max(at for at, _ in points) / 60
        self._step = _round_step(max(held for _, held in points) / MEBI / 5)
        self._mebi = self._step * 6

    def grid(self) -> List[str]:
        parts = []
        for mebi in range(0, self._mebi + 1, self._step):
            y = self._y(mebi * MEBI)
            parts.append(_rule(_LEFT, y, _WIDTH - _RIGHT, y, "#ddd"))
            parts.append(_text(_LEFT - 8, y + 4, f"{mebi}", "end"))
        step = _round_step(self._minutes / 6)
        for minute in range(0, int(self._minutes) + 1, step):
            x = self._x(60 * minute)
            parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{minute}", "middle"))
        parts.append(_text(_LEFT - 8, _TOP - 10, "MiB", "end"))
        parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 8, "minutes", "end"))
        return parts

    def mark(self, at: float) -> str:
        x = self._x(at)
        return _rule(x, _TOP, x, _HEIGHT - _BOTTOM, "#eee")

    def line(self, points: Sequence[Point], colour: str) -> str:
        path = " ".join(f"{self._x(at):.1f},{self._y(held):.1f}" for at, held in points)
        return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>"

    def label(self, point: Point, name: str, colour: str) -> str:
        x, y = self._x(point[0]) + 6, self._y(point[1]) + 4
        return _text(x, y, name).replace("#333", colour)

    def _x(self, seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / 60 / self._minutes

    def _y(self, held: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * held / MEBI / self._mebi


def _round_step(least: float) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … that is not below ``least``."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if factor * scale >= least:
                return factor * scale
        scale *= 10


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {ends} stroke='{colour}'/>"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {_STYLE}>{text}</text>"
