"""What any measurement but a drain found: named figures, curves and checks, as plain data for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from streams.bench.environment import environment
from streams.bench.spread import SCHEMA, Spread

Curve = list[list[float]]
"""Points (x, y)."""


@dataclass(slots=True)
class Finding:
    """One run. The names of figures end in their unit unless they are ratios: `_ms`, `_per_second`, `_mb`."""

    figures: dict[str, float]
    checks: dict[str, bool] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(self.checks.values())


@dataclass(slots=True)
class Findings:
    """All runs of one command."""

    kind: str
    options: dict[str, Any]
    runs: list[Finding] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=environment)

    @property
    def ok(self) -> bool:
        return all(run.ok for run in self.runs)

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """Median, lowest and highest of every figure."""
        names = dict.fromkeys(name for run in self.runs for name in run.figures)
        return {
            name: asdict(Spread.of([run.figures[name] for run in self.runs if name in run.figures]))
            for name in names
        }

    def median(self, name: str) -> float:
        return self.summary[name]["median"]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "ok": self.ok,
            "options": self.options,
            "environment": self.environment,
            "summary": self.summary,
            "runs": [asdict(run) for run in self.runs],
        }
