"""Times, slowness and errors of the statements that a process sends to PostgreSQL.

Statements are told apart by their summaries ("UPDATE tasks"), as in spans. They belong to the code and are
few; should a handler make up statements at run time, what is new past a limit counts as "other".
"""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from streams.telemetry.sql import summarize

SLOW_SECONDS: Final = 0.1
"""The performance guide's limit for a slow query, and its target for the p99."""
OTHER: Final = "other"
_MOST: Final = 100  # names; 15 series each
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Statements:
    """Metrics of statements; one object for all connections of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "streams_db_query_duration_seconds",
            "Seconds of a statement, as the client sees it.",
            ["statement"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._slow = Counter(
            "streams_db_slow_queries",
            f"Statements that took longer than {SLOW_SECONDS * 1000:.0f} ms.",
            ["statement"],
            registry=registry,
        )
        self._errors = Counter(
            "streams_db_errors",
            "Statements that failed, by SQLSTATE, or by the class of an error that has none.",
            ["code"],
            registry=registry,
        )
        self._names: dict[str, tuple[Histogram, Counter]] = {}

    def on_query(self, record: Any) -> None:
        """asyncpg's query logger: takes its LoggedQuery."""
        name = summarize(record.query).text
        duration, slow = self._names.get(name) or self._bound(name)
        duration.observe(record.elapsed)
        if record.elapsed > SLOW_SECONDS:
            slow.inc()
        if record.exception is not None:
            code = getattr(record.exception, "sqlstate", None)
            self._errors.labels(code or type(record.exception).__name__).inc()

    def _bound(self, name: str) -> tuple[Histogram, Counter]:
        if len(self._names) >= _MOST:
            name = OTHER
        return self._names.setdefault(name, (self._seconds.labels(name), self._slow.labels(name)))
