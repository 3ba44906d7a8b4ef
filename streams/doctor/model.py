"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streams.doctor.patient import Patient


class Section(StrEnum):
    """What is examined; the order of the report."""

    POSTGRES = "postgres"
    REDIS = "redis"
    RABBITMQ = "rabbitmq"
    SERVICE = "service"
    HOST = "host"


class Verdict(StrEnum):
    """From the worst on; `UNKNOWN` means that nothing could be measured, and says why."""

    CRITICAL = "critical"
    WARNING = "warning"
    UNKNOWN = "unknown"
    OK = "ok"

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        measured: the value, in words for people: no payload, no secret, no statement's literals.
        remedy: what to do, where the check's own sentence is not exact enough.
        sql: what would do it. Never run by us.
    """

    verdict: Verdict
    measured: str
    remedy: str = ""
    sql: tuple[str, ...] = ()


def ok(measured: object) -> Finding:
    return Finding(Verdict.OK, str(measured))


def warning(measured: object, remedy: str = "", *sql: str) -> Finding:
    return Finding(Verdict.WARNING, str(measured), remedy, sql)


def critical(measured: object, remedy: str = "", *sql: str) -> Finding:
    return Finding(Verdict.CRITICAL, str(measured), remedy, sql)


def unknown(why: str, remedy: str = "", *sql: str) -> Finding:
    return Finding(Verdict.UNKNOWN, why, remedy, sql)


def unless(holds: bool, measured: object, remedy: str = "", *sql: str) -> Finding:
    """OK if it holds, else a warning."""
    return ok(measured) if holds else warning(measured, remedy, *sql)


Examine = Callable[["Patient"], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One item of the checklists.

    Args:
        name: `<section>.<what>`; stable, since scripts select by it.
        looks_at: what is measured, for the documentation.
        target: what is right, short enough for a column.
        remedy: what to do when it is not.
        page: where our documentation says more.
        guide: the part of the performance guide that it makes executable; empty: it is ours.
        late: runs after the window between the two samples of all counters.
    """

    name: str
    looks_at: str
    target: str
    remedy: str
    page: str
    guide: str
    late: bool
    examine: Examine

    @property
    def section(self) -> Section:
        return Section(self.name.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Result:
    """A check with what it found."""

    check: Check
    finding: Finding
    seconds: float = 0.0


REGISTRY: Final[dict[str, Check]] = {}
"""All checks by name, in the order of their modules; filled when `streams.doctor.checks` is imported."""


def check(
    name: str, looks_at: str, *, target: str, remedy: str, page: str = "", guide: str = "", late: bool = False
) -> Callable[[Examine], Examine]:
    """Register a function as a check; the arguments are those of `Check`."""

    def register(examine: Examine) -> Examine:
        assert name not in REGISTRY, f"two checks are called {name}"
        section = name.partition(".")[0]
        REGISTRY[name] = Check(
            name, looks_at, target, remedy, page or f"docs/doctor.md#{section}", guide, late, examine
        )
        return examine

    return register
