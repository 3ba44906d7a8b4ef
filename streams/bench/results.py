"""What a measurement found, as plain data that goes to JSON and back."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

SCHEMA: Final = 1
_LIBRARIES: Final = ("aio-pika", "aiormq", "asyncpg", "faststream", "opentelemetry-sdk", "pydantic", "uvloop")


def _environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "settings": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("STREAMS_", "OTEL_BSP_"))
        },
    }


def _commit() -> str:
    """The checkout's commit, with a + if files differ from it; empty outside of a checkout."""
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


@dataclass(slots=True)
class Batches:
    """The batches of one queue."""

    count: int
    mean: float
    triggers: dict[str, int]


@dataclass(slots=True)
class Run:
    """One drain of a backlog."""

    events: int
    messages: int
    message_bytes: float
    """Mean size of a body."""
    fill_seconds: float
    seconds: float
    """From the first delivery to the last commit."""
    fresh_seconds: float
    """From the first delivery until every invalidation had been applied to Redis."""
    events_per_second: float
    cpu_us: dict[str, float]
    """CPU per event in microseconds, by process, from the first delivery until all was at rest."""
    machine: dict[str, float]
    """Shares of the processors' time: busy, idle, stolen by the host."""
    batches: dict[str, Batches]
    memory: dict[str, list[float]]
    """Resident MB by process, over `memory_times` (seconds)."""
    memory_times: list[float]
    commits: list[list[float]]
    """(seconds since the first delivery, events committed by then), one point per batch, thinned out."""
    wal_bytes: float
    """Write-ahead log per event."""
    rows: dict[str, int]
    """Row versions written, by table."""
    rows_per_second: float
    invalidations: int
    spans: dict[str, int]
    """received, consumer (the receiver's counts), dropped (the service's)."""
    letters: int
    checks: dict[str, bool]

    @property
    def ok(self) -> bool:
        return all(self.checks.values())


@dataclass(slots=True)
class Result:
    """All runs of one command."""

    kind: str
    options: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=_environment)

    @property
    def ok(self) -> bool:
        return all(run.ok for run in self.runs)

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": self.kind, "ok": self.ok, **self._parts()}

    def _parts(self) -> dict[str, Any]:
        return {
            "options": self.options,
            "environment": self.environment,
            "summary": summary(self.runs),
            "runs": [asdict(run) for run in self.runs],
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def summary(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of the figures that matter."""
    figures: dict[str, list[float]] = {}
    for run in runs:
        for name, value in figures_of(run).items():
            figures.setdefault(name, []).append(value)
    return {name: asdict(Spread.of(values)) for name, values in figures.items()}


def figures_of(run: Run) -> Mapping[str, float]:
    return {
        "events_per_second": run.events_per_second,
        **{f"cpu_us.{name}": value for name, value in run.cpu_us.items()},
        "cpu_us.all": sum(run.cpu_us.values()),
        "wal_bytes": run.wal_bytes,
        "rows_per_second": run.rows_per_second,
        **{f"memory_mb.{name}": max(values) for name, values in run.memory.items() if values},
    }
