"""The numbers that the design sets, beside what was measured last: docs/performance.md begins with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Measured = Mapping[str, Any]
"""A result as JSON has it."""


Read = Callable[[Measured], float | None]
"""Finds a number in a result; None: it is not there."""


def _medians(measured: Measured, name: str) -> list[float]:
    """Of a figure, once for each part of the step."""
    return [spread["median"] for figure, spread in measured["summary"].items() if figure.endswith(name)]


def _figure(name: str) -> Read:
    def read(measured: Measured) -> float | None:
        found = _medians(measured, name)
        return found[-1] if found else None

    return read


def _ratio(name: str) -> Read:
    def read(measured: Measured) -> float | None:
        ratio: float | None = (measured.get("ratios") or {}).get(name)
        return ratio

    return read


def _speed_kept(measured: Measured) -> float | None:
    """Of the run with the most rows stored beforehand, to the one with none."""
    speeds = _medians(measured, "events_per_second")
    return speeds[-1] / speeds[0] if len(speeds) > 1 else None


@dataclass(frozen=True, slots=True)
class Goal:
    """`bar` is to be reached, `aim` to come near to. A latency or a size must be below them."""

    what: str
    step: str
    """The section and the file that it is read from."""
    read: Read
    bar: float
    aim: float
    unit: str = ""
    below: bool = False

    def is_met(self, value: float, goal: float) -> bool:
        return value <= goal if self.below else value >= goal


_SPEED: Final = _figure("events_per_second")

GOALS: Final = (
    Goal("drain, single events, spans exported", "drain", _SPEED, 10_000, 20_000, "events/s"),
    Goal("drain, single events, spans discarded", "drain-discard", _SPEED, 15_000, 25_000, "events/s"),
    Goal("drain, arrays of 100", "batch", _SPEED, 30_000, 45_000, "events/s"),
    Goal("against a plain FastStream handler, single events", "drain", _ratio("plain"), 10, 30, "×"),
    Goal("against COPY of the same rows, tasks only created", "created", _ratio("ceiling"), 0.5, 0.7, "×"),
    Goal("2,000/s: committed, p99", "steady", _figure("committed_ms.p99"), 50, 25, "ms", below=True),
    Goal("2,000/s: caches fresh, p99", "steady", _figure("fresh_ms.p99"), 75, 40, "ms", below=True),
    Goal("cached reads at 1,000/s, p99", "api", _figure("read_ms.p99"), 10, 4, "ms", below=True),
    Goal("hits under writes, warm", "mixed", _figure("warm: hit_ratio"), 0.95, 0.98),
    Goal("hits under writes, cold", "mixed", _figure("cold: hit_ratio"), 0.95, 0.98),
    Goal("worker with a long backlog", "backlog", _figure("memory_mb.worker"), 200, 120, "MB", below=True),
    Goal("speed kept with the most rows stored", "stored", _speed_kept, 0.8, 0.95, "×"),
)


def table(results: Mapping[str, Measured]) -> Iterator[str]:
    """Lines of Markdown; `results` by step. What was never measured is left out."""
    yield "| | measured | bar | aim | | at commit |"
    yield "|---|---:|---:|---:|---|---|"
    for goal in GOALS:
        measured = results.get(goal.step)
        if measured is None or (value := goal.read(measured)) is None:
            continue
        if goal.is_met(value, goal.aim):
            verdict = "aim reached"
        else:
            verdict = "bar reached" if goal.is_met(value, goal.bar) else "**missed**"
        figures = " | ".join(f"{short(figure)} {goal.unit}".strip() for figure in (value, goal.bar, goal.aim))
        yield f"| {goal.what} | {figures} | {verdict} | {measured['environment']['commit'] or '?'} |"


def short(value: float) -> str:
    """Three digits or more, as many as say something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
