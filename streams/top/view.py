"""The numbers of one frame: pure, from readings of the processes.

A number that nobody tells is None, and shown as "-": processes of several versions are watched, and what one
does not measure must not look like 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streams.scrape import Change, Sample
from streams.scrape.target import Reading
from streams.top.sums import (
    failed,
    highest,
    hit_ratio,
    hits,
    percentiles,
    rate,
    request_time,
    requests,
    total,
)

_QUERIES: Final = "streams_db_query_duration_seconds"
_LEVELS: Final = ("l1", "redis")
_QUARANTINE: Final = "quarantine"


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue over all processes; rates in events or batches a second, times in seconds."""

    name: str
    backlog: int | None
    """Messages that wait in RabbitMQ; None without its management API."""
    in_flight: float | None
    stored: float | None
    repeats: float | None
    quarantined: float | None
    batch: float | None
    """Mean events of a batch."""
    triggers: Mapping[str, float]
    """Shares of what closed batches."""
    transaction: float | None
    """99th percentile."""
    age: float | None
    """99th percentile of the events' age at their commit."""
    retries: float | None
    paused: bool
    expected: float
    reported: float


@dataclass(frozen=True, slots=True)
class Process:
    """One process."""

    role: str
    name: str
    state: str
    """ready, not ready, restarted, or down with the reason."""
    well: bool
    trouble: str = ""
    cpu: float | None = None
    """Of one core."""
    memory: float | None = None
    held: float | None = None
    files: float | None = None
    spans: float | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement over all processes, by its summary."""

    name: str
    calls: float
    """Each second."""
    p99: float | None
    busy: float
    """Seconds spent on it each second, by all connections."""


@dataclass(frozen=True, slots=True)
class View:
    """All of one moment."""

    seconds: float | None
    """Between the two readings that rates come from; None: there was only one."""
    queues: Sequence[Queue]
    processes: Sequence[Process]
    statements: Sequence[Statement] = ()
    """Those that took the most time, first."""
    stored: float | None = None
    repeats: float | None = None
    quarantined: float | None = None
    backlog: int | None = None
    commit_age: tuple[float | None, float | None] = (None, None)
    """50th and 99th percentile, in seconds; so are the next ones."""
    cache_age: tuple[float | None, float | None] = (None, None)
    transaction: tuple[float | None, float | None] = (None, None)
    query_p99: float | None = None
    requests: float | None = None
    request_time: tuple[float | None, float | None] = (None, None)
    failed: float | None = None
    """Requests answered with 5xx, a second."""
    hits: Mapping[str, float] = field(default_factory=dict)
    """Hit ratio by cache level."""
    hit_ratio: float | None = None
    """Of all look-ups, over all levels."""
    evictions: float | None = None
    pool_used: float | None = None
    pool_most: float | None = None
    pool_waiting: float | None = None
    letters: float | None = None
    paused: Sequence[str] = ()
    partitions_ahead: float | None = None
    partitions_table: str = ""
    outbox: float | None = None
    outbox_age: float | None = None
    """Of the oldest row, in seconds."""
    spans_dropped: float | None = None

    @property
    def up(self) -> int:
        return sum(not process.state.startswith("down") for process in self.processes)


def look(
    readings: Sequence[Reading], changes: Sequence[Change], broker: Mapping[str, Mapping[str, Any]] | None
) -> View:
    """The numbers of a moment.

    Args:
        readings: of every process, those that are down included.
        changes: since the reading before, of those that were read twice.
        broker: RabbitMQ's queues by name, as its management API lists them.
    """
    samples = [reading.sample for reading in readings if reading.sample is not None]
    known = {id(change.after): change for change in changes}
    queues = [_queue(name, samples, changes, broker) for name in _queue_names(samples)]
    partitions = [item for s in samples for item in s.by("streams_partitions_ahead_months", "table").items()]
    table, ahead = min(partitions, key=lambda item: item[1], default=("", None))
    told = None if broker is None else (broker.get(_QUARANTINE) or {}).get("messages")
    size, idle = total(samples, "streams_db_pool_size"), total(samples, "streams_db_pool_idle")
    return View(
        seconds=max((change.seconds for change in changes), default=None),
        queues=queues,
        processes=[_process(r, known.get(id(r.sample))) for r in readings],
        statements=_statements(changes),
        stored=rate(changes, "streams_events_total", outcome="stored"),
        repeats=rate(changes, "streams_events_total", outcome="repeat"),
        quarantined=rate(changes, "streams_events_total", outcome="quarantined"),
        backlog=None if broker is None else sum(q.backlog or 0 for q in queues),
        commit_age=percentiles(changes, "streams_event_age_at_commit_seconds"),
        cache_age=percentiles(changes, "streams_event_age_at_cache_seconds"),
        transaction=percentiles(changes, "streams_stage_seconds", stage="transaction"),
        query_p99=percentiles(changes, _QUERIES)[1],
        requests=requests(changes),
        request_time=request_time(changes),
        failed=failed(changes),
        hits={level: share for level in _LEVELS if (share := hits(changes, level)) is not None},
        hit_ratio=hit_ratio(changes),
        evictions=rate(changes, "streams_cache_evictions_total"),
        pool_used=None if size is None else size - (idle or 0.0),
        pool_most=total(samples, "streams_db_pool_max") or size,
        pool_waiting=total(samples, "streams_db_pool_waiting"),
        letters=told if isinstance(told, int) else highest(samples, "streams_quarantine_letters"),
        paused=sorted(queue.name for queue in queues if queue.paused),
        partitions_ahead=ahead,
        partitions_table=table,
        outbox=highest(samples, "streams_outbox_pending"),
        outbox_age=highest(samples, "streams_outbox_oldest_seconds"),
        spans_dropped=total(samples, "streams_spans_dropped_total"),
    )


def _queue_names(samples: Iterable[Sample]) -> list[str]:
    return sorted({queue for sample in samples for queue in sample.by("streams_consumers_expected", "queue")})


def _queue(
    name: str,
    samples: Sequence[Sample],
    changes: Sequence[Change],
    broker: Mapping[str, Mapping[str, Any]] | None,
) -> Queue:
    closed: dict[str, float] = {}
    for change in changes:
        for trigger, share in change.rates("streams_batches_total", "trigger", queue=name).items():
            closed[trigger] = closed.get(trigger, 0.0) + share
    every = sum(closed.values())
    batches = rate(changes, "streams_batch_size_count", queue=name)
    events = rate(changes, "streams_batch_size_sum", queue=name)
    ready = None if broker is None else (broker.get(name) or {}).get("messages_ready", 0)
    return Queue(
        name=name,
        backlog=ready if isinstance(ready, int) else None,
        in_flight=total(samples, "streams_in_flight_events", queue=name),
        stored=rate(changes, "streams_events_total", queue=name, outcome="stored"),
        repeats=rate(changes, "streams_events_total", queue=name, outcome="repeat"),
        quarantined=rate(changes, "streams_events_total", queue=name, outcome="quarantined"),
        batch=(events or 0.0) / batches if batches else None,
        triggers={trigger: share / every for trigger, share in closed.items() if share},
        transaction=percentiles(changes, "streams_stage_seconds", queue=name, stage="transaction")[1],
        age=percentiles(changes, "streams_event_age_at_commit_seconds", queue=name)[1],
        # A counter that has no series yet has counted nothing.
        retries=(rate(changes, "streams_retries_total", queue=name) or 0.0) if changes else None,
        paused=bool(highest(samples, "streams_paused", queue=name)),
        expected=total(samples, "streams_consumers_expected", queue=name) or 0.0,
        reported=highest(samples, "streams_consumers_reported", queue=name) or 0.0,
    )


def _process(reading: Reading, change: Change | None) -> Process:
    target, sample = reading.target, reading.sample
    if sample is None:
        return Process(target.role, target.name, f"down: {reading.trouble}", well=False)
    troubles = "; ".join(f"{name}: {what}" for name, what in (reading.troubles or {}).items())
    restarted = change is not None and change.restarted
    ready = "restarted" if restarted else "ready"
    return Process(
        target.role,
        target.name,
        ready if reading.ready else "not ready",
        well=bool(reading.ready) and not troubles,
        trouble=troubles,
        cpu=None if change is None else change.rate("process_cpu_seconds_total"),
        memory=sample.total("process_resident_memory_bytes"),
        held=sample.total("streams_held_bytes"),
        files=sample.total("process_open_fds"),
        spans=sample.total("streams_spans_waiting"),
    )


def _statements(changes: Sequence[Change]) -> list[Statement]:
    names = {name for change in changes for name in change.after.by(f"{_QUERIES}_count", "statement")}
    found = [
        Statement(
            name,
            calls,
            percentiles(changes, _QUERIES, statement=name)[1],
            rate(changes, f"{_QUERIES}_sum", statement=name) or 0.0,
        )
        for name in names
        if (calls := rate(changes, f"{_QUERIES}_count", statement=name))
    ]
    return sorted(found, key=lambda statement: (-statement.busy, statement.name))
