"""Small SVG plots, written by hand: lines with markers, or bars. They read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 36, 44
_COLOURS: Final = ("#3b82c4", "#d9822b", "#3fa34d", "#b0479c", "#8a6d3b", "#5c5cd6")
_POINTS: Final = 150
_MARKED: Final = 20

Points = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 or `low` to a round number above `high`."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], wanted: int = 5) -> Axis:
        """An axis that holds all values and zero, with round ticks."""
        low, high = min((0.0, *values)), max((0.0, *values))
        step = step_for(high - low if high - low > 1e-6 else 1.0, wanted)
        first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
        if last == first:
            last += 1
        ticks = tuple(round(n * step, 10) for n in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value lies between the pixels `start` and `end`."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def step_for(span: float, wanted: int) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that needs at most `wanted` steps."""
    power = 10.0 ** math.floor(math.log10(span / wanted))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power * wanted >= span * (1 - 1e-9))


def lines(title: str, x: str, y: str, series: Mapping[str, Points]) -> str:
    """One line per series, over numbers."""
    thinned = {name: thin(points, _POINTS) for name, points in series.items() if points}
    across = Axis.over([point[0] for points in thinned.values() for point in points])
    up = Axis.over([point[1] for points in thinned.values() for point in points])
    parts = [_frame(title, x, y, up)]
    for tick in across.ticks:
        place = across.place(tick, _LEFT, WIDTH - _RIGHT)
        parts.append(_text(place, HEIGHT - _BOTTOM + 16, _number(tick), "middle"))
    for number, (name, points) in enumerate(thinned.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [
            (across.place(point[0], _LEFT, WIDTH - _RIGHT), up.place(point[1], HEIGHT - _BOTTOM, _TOP))
            for point in points
        ]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(placed) <= _MARKED:
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in placed]
        parts.append(_legend(number, name, colour))
    return _document(parts)


def bars(title: str, y: str, values: Mapping[str, float]) -> str:
    """One bar per name, with its value above."""
    up = Axis.over(list(values.values()))
    parts = [_frame(title, "", y, up)]
    room = (WIDTH - _LEFT - _RIGHT) / max(1, len(values))
    for number, (name, value) in enumerate(values.items()):
        left = _LEFT + room * (number + 0.15)
        top = up.place(value, HEIGHT - _BOTTOM, _TOP)
        colour = _COLOURS[number % len(_COLOURS)]
        height = HEIGHT - _BOTTOM - top
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{room * 0.7:.1f}" height="{height:.1f}" '
            f'fill="{colour}"/>'
        )
        middle = left + room * 0.35
        parts.append(_text(middle, top - 4, _number(value), "middle"))
        parts.append(_text(middle, HEIGHT - _BOTTOM + 16, name, "middle"))
    return _document(parts)


def thin(points: Points, most: int) -> list[Sequence[float]]:
    """At most `most` points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]


def _frame(title: str, x: str, y: str, up: Axis) -> str:
    parts = [_text(_LEFT, 18, title, "start", weight="bold"), _text(_LEFT - 8, _TOP - 8, y, "end")]
    for tick in up.ticks:
        place = up.place(tick, HEIGHT - _BOTTOM, _TOP)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="#8884"/>'
        )
        parts.append(_text(_LEFT - 6, place + 4, _number(tick), "end"))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, x, "middle"))
    return "".join(parts)


def _legend(number: int, name: str, colour: str) -> str:
    return _text(WIDTH - _RIGHT, 18 + 14 * number, name, "end", colour=colour)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#888", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:.4g}k"
    return f"{value:.4g}"


def _document(parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">{"".join(parts)}</svg>\n'
    )
