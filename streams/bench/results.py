"""What a drain found, as plain data that goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from streams.bench.environment import environment
from streams.bench.finding import Finding
from streams.bench.spread import SCHEMA, Spread

BASELINES: Final = {
    "ceiling": "COPY of the same rows, one connection, one transaction",
    "ceiling in batches": "the same COPY in as many transactions as the service",
    "bare": "a bare aiormq consumer of single events, no work",
    "plain": "a plain FastStream handler, one by one",
}
"""What `Result.baselines` may hold, in words."""


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
    baselines: dict[str, Finding] = field(default_factory=dict)
    """By the names of BASELINES."""
    environment: dict[str, Any] = field(default_factory=environment)

    @property
    def ok(self) -> bool:
        return all(run.ok for run in self.runs) and all(found.ok for found in self.baselines.values())

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        return summary(self.runs)

    @property
    def events_per_second(self) -> float:
        return self.summary["events_per_second"]["median"]

    @property
    def ratios(self) -> dict[str, float]:
        """The service's events per second to those of each baseline."""
        return {
            name: self.events_per_second / finding.figures["events_per_second"]
            for name, finding in self.baselines.items()
        }

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": self.kind, "ok": self.ok, **self._parts()}

    def _parts(self) -> dict[str, Any]:
        return {
            "options": self.options,
            "environment": self.environment,
            "summary": self.summary,
            "baselines": {name: asdict(finding) for name, finding in self.baselines.items()},
            "ratios": self.ratios,
            "runs": [asdict(run) for run in self.runs],
        }


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
