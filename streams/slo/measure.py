"""Numbers from what processes say at /metrics: between two readings, or since each of them started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.errors import StreamsError
from streams.scrape.rates import Change
from streams.scrape.sample import Sample, quantile
from streams.scrape.target import Reading, Target, client, read_all

_TIMEOUT: Final = 10.0
_START: Final = "process_start_time_seconds"
_HTTP: Final = "streams_http_request_duration_seconds"
_UPDATES: Final = "invalidations."


class NothingMeasured(StreamsError):
    """Nobody answered."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers by the objectives' names; None: there was nothing to measure."""

    numbers: dict[str, float | None]
    seconds: float
    """How long it was measured."""
    processes: int
    silent: list[str] = field(default_factory=list)
    """Those that did not answer, with why."""


async def from_processes(targets: Sequence[Target], seconds: float | None) -> Measured:
    """Read all of them twice, `seconds` apart; with None once, for all that was since they started.

    Raises:
        NothingMeasured: not one of them answers.
    """
    async with client(_TIMEOUT) as http:
        before = await read_all(http, targets) if seconds is not None else []
        if seconds is not None:
            await asyncio.sleep(seconds)
        after = await read_all(http, targets)
    answered = [reading for reading in after if reading.sample is not None]
    if not answered:
        raise NothingMeasured("not one process answers: start `streams run`, or name the URLs")
    earlier = {reading.target: reading.sample for reading in before}
    changes = [_change(reading, earlier.get(reading.target)) for reading in answered]
    silent = [f"{r.target.role} {r.target.name}: {r.trouble}" for r in after if r.sample is None]
    longest = max(change.seconds for change in changes)
    return Measured(numbers(changes), longest, len(answered), silent)


def _change(reading: Reading, before: Sample | None) -> Change:
    after = reading.sample
    assert after is not None
    if before is None:
        lived = time.time() - (after.total(_START) or time.time())
        before = Sample(after.at - lived, {})
    return Change(before, after)


def numbers(changes: Sequence[Change]) -> dict[str, float | None]:
    """The objectives' numbers, added up over processes."""
    answered, failed = _answers(changes)
    hits = sum(
        _increase(changes, "streams_cache_requests_total", level=level, result="hit")
        for level in ("l1", "redis")
    )
    # What the first level misses may be a hit of the second: a miss is what PostgreSQL answered.
    misses = sum(
        rate * change.seconds
        for change in changes
        for result, rate in change.rates("streams_cache_requests_total", "result", level="redis").items()
        if result != "hit"
    )
    memory = [m for c in changes if _is_worker(c) and (m := c.after.total("process_resident_memory_bytes"))]
    return {
        "api_p99": quantile(_buckets(changes, _HTTP, {"route": "/v1/"}), 0.99),
        "database_p99": quantile(_buckets(changes, "streams_db_query_duration_seconds"), 0.99),
        "hit_ratio": hits / (hits + misses) if hits + misses else None,
        "throughput": _throughput(changes),
        "availability": 1 - failed / answered if answered else None,
        "commit_age_p99": quantile(_buckets(changes, "streams_event_age_at_commit_seconds"), 0.99),
        "cache_age_p99": quantile(_buckets(changes, "streams_event_age_at_cache_seconds"), 0.99),
        "worker_memory": max(memory, default=None),
    }


def _is_worker(change: Change) -> bool:
    return change.after.total("streams_outbox_pending") is not None


def _throughput(changes: Iterable[Change]) -> float | None:
    """Events stored a second, those of updaters aside."""
    rates = [
        rate
        for change in changes
        for queue, rate in change.rates("streams_events_total", "queue", outcome="stored").items()
        if not queue.startswith(_UPDATES)
    ]
    return sum(rates) if rates else None


def _answers(changes: Iterable[Change]) -> tuple[float, float]:
    """Requests to the read API, and those of them that ended in 5xx."""
    answered = failed = 0.0
    for change in changes:
        for labels, _ in change.after.matching(f"{_HTTP}_count", {}):
            own = dict(labels)
            if own["route"].startswith("/v1/"):
                count = change.increase(f"{_HTTP}_count", **own) or 0.0
                answered += count
                failed += count if own["status_code"].startswith("5") else 0.0
    return answered, failed


def _increase(changes: Iterable[Change], name: str, **labels: str) -> float:
    return sum(change.increase(name, **labels) or 0.0 for change in changes)


def _buckets(
    changes: Iterable[Change], name: str, prefixes: dict[str, str] | None = None
) -> dict[str, float]:
    """A histogram's cumulative counts by `le`, over all series whose labels begin so."""
    sums: dict[str, float] = {}
    for change in changes:
        groups = {
            tuple(pair for pair in labels if pair[0] != "le")
            for labels, _ in change.after.matching(f"{name}_bucket", {})
        }
        for group in groups:
            own = dict(group)
            if all(own.get(label, "").startswith(start) for label, start in (prefixes or {}).items()):
                for le, count in change.buckets(name, **own).items():
                    sums[le] = sums.get(le, 0.0) + count
    return sums
