"""Prometheus metrics of one process, all with the prefix `streams_`.

Labels are bounded: queues, stages and reasons come from the code, routes are templates. What the hot
path touches is bound to its queue once (`Metrics.queue`), since looking labels up costs more than counting.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from streams.telemetry.ages import Ages
from streams.telemetry.boards import Boards
from streams.telemetry.requests import current_trace_id
from streams.telemetry.statements import Statements
from streams.telemetry.version import own_version

LATENCY_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
SIZE_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 200, 300, 400, 500, 750, 1000, 1500, 2000)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Outcome(StrEnum):
    STORED = "stored"
    REPEAT = "repeat"
    QUARANTINED = "quarantined"


class Stage(StrEnum):
    """The parts of an event's way through a process."""

    WAIT = "wait"
    TRANSACTION = "transaction"
    PUBLISH = "publish"
    SETTLE = "settle"


class QueueMetrics:
    """What one queue's hot path touches."""

    def __init__(self, metrics: Metrics, queue: str) -> None:
        self._metrics = metrics
        self._queue = queue
        self.received = metrics.messages_received.labels(queue)
        self.decoded_bytes = metrics.decoded_bytes.labels(queue)
        self.redelivered = metrics.redelivered.labels(queue)
        self.returned = metrics.returned.labels(queue)
        self.stored = metrics.events.labels(queue, Outcome.STORED)
        self.repeats = metrics.events.labels(queue, Outcome.REPEAT)
        self.batch_size = metrics.batch_size.labels(queue)
        self.wait = metrics.stage_seconds.labels(queue, Stage.WAIT)
        self.transaction = metrics.stage_seconds.labels(queue, Stage.TRANSACTION)
        self.publish = metrics.stage_seconds.labels(queue, Stage.PUBLISH)
        self.settle = metrics.stage_seconds.labels(queue, Stage.SETTLE)
        self.in_flight = metrics.in_flight_events.labels(queue)
        self.paused = metrics.paused.labels(queue)
        self._quarantined = metrics.events.labels(queue, Outcome.QUARANTINED)

    def batch(self, trigger: str, size: int) -> None:
        """A batch was closed: at `size` events, by `trigger`."""
        self._metrics.batches.labels(self._queue, trigger).inc()
        self.batch_size.observe(size)

    def committed(self, ages: Collection[float], trace_id: str | None = None) -> None:
        """A batch was committed; `ages` in seconds, commit minus the events' times."""
        self._metrics.event_age_at_commit.observe(ages, self._queue, trace_id=trace_id)

    def quarantined(self, reason: str, events: int = 1) -> None:
        """Events were put into quarantine; counts their outcome, too."""
        self._quarantined.inc(events)
        self._metrics.quarantined.labels(self._queue, reason).inc(events)

    def retried(self, reason: str) -> None:
        """A batch was rolled back and will run again; `reason` as a verdict or a SQLSTATE."""
        self._metrics.retries.labels(self._queue, reason).inc()


class Metrics:
    """Every metric of one process, in a registry of its own.

    Args:
        role: "worker", "updater" or "api": told by `streams_build_info`.
    """

    def __init__(self, role: str = "") -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which Prometheus makes nothing of
        self.registry = CollectorRegistry()
        self._queues: dict[str, QueueMetrics] = {}
        self._define_queue_metrics()
        self._define_store_metrics()
        self._define_cache_metrics()
        self.boards = Boards(self.registry)
        self._define_process_metrics()
        self._build_info.labels(own_version(), platform.python_version(), role).set(1)
        ProcessCollector(registry=self.registry)

    def queue(self, name: str) -> QueueMetrics:
        """The metrics of one queue, bound once."""
        if name not in self._queues:
            self._queues[name] = QueueMetrics(self, name)
        return self._queues[name]

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the template, as in "/tasks/{task_id}", never a path."""
        known = method if method in _METHODS else "_OTHER"
        self.http_request_duration.labels(known, route, str(status)).observe(
            seconds, exemplar(current_trace_id())
        )

    def spans_lost(self, reason: str, count: int) -> None:
        self.spans_dropped.labels(reason).inc(count)

    def span_queue(self, length: Callable[[], int]) -> None:
        """Have the length of the span queue read whenever metrics are."""
        self.spans_waiting.set_function(length)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and the content type of the metrics endpoint.

        Args:
            accept: the request's header; who asks for OpenMetrics is given exemplars, too.
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def _define_queue_metrics(self) -> None:
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.messages_received = counter("messages_received", "AMQP messages delivered to us.", "queue")
        self.decoded_bytes = counter("decoded_bytes", "Bytes of message bodies that were decoded.", "queue")
        self.redelivered = counter("redelivered", "Messages that had been delivered before.", "queue")
        self.returned = counter("returned", "Messages given back to the queue unsettled.", "queue")
        self.events = counter("events", "Events settled, by what became of them.", "queue", "outcome")
        self.batches = counter("batches", "Batches closed, by what closed them.", "queue", "trigger")
        self.batch_size = histogram("batch_size", "Events of a batch.", SIZE_BUCKETS, "queue")
        self.stage_seconds = histogram(
            "stage_seconds", "Seconds a batch spent in a stage.", LATENCY_BUCKETS, "queue", "stage"
        )
        self.event_age_at_commit = Ages(
            "streams_event_age_at_commit_seconds",
            "Seconds from an event's time to its commit.",
            ["queue"],
            registry=self.registry,
        )
        self.event_age_at_cache = Ages(
            "streams_event_age_at_cache_seconds",
            "Seconds from an invalidation's time to its effect in Redis.",
            registry=self.registry,
        )
        self.retries = counter("retries", "Batches rolled back to run again.", "queue", "reason")
        self.quarantined = counter("quarantined", "Events put into quarantine.", "queue", "reason")
        self.quarantine_letters = gauge("quarantine_letters", "Messages in the queue `quarantine`.")
        self.paused = gauge(
            "paused", "1 while a queue is not consumed because the world needs repair.", "queue"
        )
        self.in_flight_events = gauge("in_flight_events", "Events delivered and not settled yet.", "queue")
        self.consumers_expected = gauge("consumers_expected", "Consumers this process should have.", "queue")
        self.consumers_reported = gauge("consumers_reported", "Consumers the broker reports.", "queue")

    def _define_store_metrics(self) -> None:
        self.db_pool_size = self._gauge("db_pool_size", "Connections of the pool.")
        self.db_pool_idle = self._gauge("db_pool_idle", "Connections of the pool that nobody uses.")
        self.db_pool_max = self._gauge("db_pool_max", "Connections that the pool may hold.")
        self.db_pool_waiting = self._gauge("db_pool_waiting", "Tasks that wait for a connection.")
        self.statements = Statements(self.registry)
        self.outbox_pending = self._gauge("outbox_pending", "Outbox rows that a sweeper found unpublished.")
        self.outbox_oldest_seconds = self._gauge(
            "outbox_oldest_seconds", "Age of the oldest batch whose messages are not all published; 0: none."
        )
        self.outbox_swept = self._counter("outbox_swept", "Outbox rows published by a sweeper.")
        self.partitions_ahead_months = self._gauge(
            "partitions_ahead_months", "Months of partitions made ahead of the present one.", "table"
        )

    def _define_cache_metrics(self) -> None:
        self.cache_requests = self._counter("cache_requests", "Look-ups at each level.", "level", "result")
        self.cache_load_seconds = self._histogram(
            "cache_load_seconds", "Seconds to load a missing value from PostgreSQL.", LATENCY_BUCKETS
        )
        self.cache_stale_drops = self._counter(
            "cache_stale_drops", "Values thrown away because an invalidation overtook their fill.", "level"
        )
        self.cache_evictions = self._counter("cache_evictions", "Values evicted for want of room.", "level")
        self.cache_refreshes = self._counter(
            "cache_refreshes", "Keys loaded again after an invalidation, by what came of it.", "result"
        )
        self.cache_read_ahead = self._counter(
            "cache_read_ahead", "New keys loaded before anybody asked, by what came of it.", "result"
        )
        self.cache_waiting = self._gauge("cache_waiting", "Keys that wait to be loaded again, or ahead.")
        self.cache_entries = self._gauge("cache_entries", "Values held in memory.", "level")
        self.cache_bytes = self._gauge("cache_bytes", "Bytes that these take, about.", "level")
        self.cache_bus_up = self._gauge("cache_bus_up", "1 while invalidations are heard and memory is used.")

    def _define_process_metrics(self) -> None:
        self.http_request_duration = self._histogram(
            "http_request_duration_seconds",
            "Seconds to answer a request.",
            LATENCY_BUCKETS,
            "method",
            "route",
            "status_code",
        )
        self._build_info = self._gauge(
            "build_info", "1; the labels say what runs.", "version", "python", "role"
        )
        self.ready = self._gauge("ready", "1 while the process is ready, as /readyz tells it.")
        self.held_bytes = self._gauge("held_bytes", "Bytes of the message bodies that this process holds.")
        self.http_requests_in_flight = self._gauge("http_requests_in_flight", "Requests being answered.")
        self.spans_dropped = self._counter("spans_dropped", "Spans lost on their way out.", "reason")
        self.spans_waiting = self._gauge("spans_waiting", "Spans that wait to be exported.")

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"streams_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"streams_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"streams_{name}", documentation, labels, buckets=buckets, registry=self.registry)


def exemplar(trace_id: str | None) -> dict[str, str] | None:
    """What an observation is to be an example of: its trace, if it has one."""
    return None if trace_id is None else {"trace_id": trace_id}
