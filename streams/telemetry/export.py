"""The queue between the hot path and the exporter, and the thread that empties it.

The SDK's BatchSpanProcessor takes spans one by one, hides how many it has dropped, drops the oldest,
and cannot be stopped within a time limit. This one takes a batch's spans at once, counts what it drops
(the newest), and keeps to the same variables (OTEL_BSP_*).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from streams.telemetry.records import Record, Spans

_log = logging.getLogger(__name__)

QUEUE_FULL: Final = "queue_full"
EXPORT_FAILED: Final = "export_failed"

Dropped = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Bounds of the queue.

    25,000 spans a second fill the default queue in 1.3 s, about 25 MB: an exporter that stalls for
    longer costs spans, never memory or time.
    """

    capacity: int = 32_768
    delay: float = 1.0
    """Seconds between exports while fewer than `batch` spans wait."""
    batch: int = 2_048
    """Spans in a request; with links about 1 MB, a quarter of what gRPC receivers take."""


class Exporter(Protocol):
    """Sends records. Called from one thread only; may block; may raise."""

    def export(self, records: Sequence[Record]) -> bool: ...

    def shutdown(self) -> None: ...


class SdkExporter:
    """Any exporter of the SDK."""

    def __init__(self, exporter: SpanExporter, spans: Spans) -> None:
        self._exporter = exporter
        self._spans = spans

    def export(self, records: Sequence[Record]) -> bool:
        return self._exporter.export(self._spans.build(records)) is SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._exporter.shutdown()


class SpanQueue:
    """A bounded queue with a thread of its own. `hand_over` never blocks and never raises.

    Args:
        dropped: told the reason and the number of spans that were lost.
    """

    def __init__(self, exporter: Exporter, policy: QueuePolicy, dropped: Dropped) -> None:
        self._exporter = exporter
        self._policy = policy
        self._dropped = dropped
        self._waiting: deque[Record] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Spans that wait to be exported."""
        return len(self._waiting)

    def hand_over(self, records: Sequence[Record]) -> None:
        room = 0 if self._stopping else self._policy.capacity - len(self._waiting)
        if len(records) > room:
            self._dropped(QUEUE_FULL, len(records) - room)
            records = records[:room]
        self._waiting.extend(records)
        if len(self._waiting) >= self._policy.batch:
            self._wake.set()

    def shutdown(self, timeout: float) -> bool:
        """Export what waits and stop, within `timeout` seconds; whether all of it got out in time."""
        if self._stopping:
            return not self._waiting
        deadline = time.monotonic() + timeout
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)
        self._abandoned = True
        self._exporter.shutdown()  # breaks off the retries of an export that is under way
        self._thread.join(max(0.1, deadline - time.monotonic()))
        left = len(self._waiting)
        if left:
            self._dropped(EXPORT_FAILED, left)
        return not left

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._policy.delay)
            self._wake.clear()
            self._export_waiting()
        self._export_waiting()

    def _export_waiting(self) -> None:
        while self._waiting and not self._abandoned:
            count = min(len(self._waiting), self._policy.batch)
            records = [self._waiting.popleft() for _ in range(count)]
            try:
                sent = self._exporter.export(records)
            except Exception:  # noqa: BLE001 - whatever an exporter does, the next batch gets its chance
                _log.warning("spans could not be exported", exc_info=True)
                sent = False
            if not sent:
                self._dropped(EXPORT_FAILED, count)
