"""The performance guide's table of goals, and the design's own targets beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KEEPING_UP_SECONDS: Final = 1.0
"""Events younger than this at their commit: nothing waits, so a low rate says nothing of what is possible."""


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    IDLE = "idle"
    """Too little came in to tell: a rate below its goal, and nothing waited."""
    UNKNOWN = "no data"


@dataclass(frozen=True, slots=True)
class Objective:
    """One goal.

    `name` is the key in reports; `least` says that large numbers are the good ones; `design` is the target of
    this project's design for the same number, on two cores that carry the servers and the load, too.
    """

    name: str
    title: str
    goal: float | None
    show: Callable[[float], str]
    least: bool = False
    design: float | None = None

    def fits(self, value: float, goal: float) -> bool:
        return value >= goal if self.least else value <= goal


@dataclass(frozen=True, slots=True)
class Row:
    """A goal, what was measured, and what that means."""

    objective: Objective
    value: float | None
    verdict: Verdict
    design: Verdict | None
    """Against the design's target, where it has one."""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"


def _rate(events: float) -> str:
    return f"{events:,.0f}/s"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


THROUGHPUT: Final = "throughput"

OBJECTIVES: Final = (
    Objective("api_p99", "API response time, p99", 0.5, _milliseconds, design=0.010),
    Objective("database_p99", "database query time, p99", 0.1, _milliseconds),
    Objective("hit_ratio", "cache hit ratio", 0.85, _percent, least=True, design=0.95),
    Objective(THROUGHPUT, "events stored", 1_000, _rate, least=True, design=10_000),
    Objective("availability", "answers other than 5xx", 0.999, _percent, least=True),
    Objective("commit_age_p99", "event to commit, p99", None, _milliseconds, design=0.050),
    Objective("cache_age_p99", "commit to fresh cache, p99", None, _milliseconds, design=0.075),
    Objective("worker_memory", "memory of a worker", None, _megabytes, design=200e6),
)


def judge(measured: Mapping[str, float | None]) -> list[Row]:
    """A row for each objective, from numbers by the objectives' names."""
    return [_row(objective, measured) for objective in OBJECTIVES]


def _row(objective: Objective, measured: Mapping[str, float | None]) -> Row:
    value = measured.get(objective.name)

    def against(goal: float) -> Verdict:
        if value is None:
            return Verdict.UNKNOWN
        if objective.fits(value, goal):
            return Verdict.MET
        age = measured.get("commit_age_p99")
        waiting = age is not None and age > KEEPING_UP_SECONDS
        return Verdict.IDLE if objective.name == THROUGHPUT and not waiting else Verdict.MISSED

    design = None if objective.design is None else against(objective.design)
    verdict = Verdict.UNKNOWN if objective.goal is None else against(objective.goal)
    return Row(objective, value, verdict, design)
