"""One attempt at a batch, and the spans below it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.trace import SpanKind

from streams.telemetry import semconv
from streams.telemetry.context import SAMPLED, Propagation, TraceContext, new_span_id
from streams.telemetry.records import NONE, Attributes, Record, Shape, Target, Value
from streams.telemetry.steps import MessageTrace, Sink, Step, count_of, error_type


class BatchTrace:
    """One attempt at a batch. Its spans are handed on by `end`, and none before."""

    __slots__ = (
        "_messages",
        "_out",
        "_propagation",
        "_queue",
        "_record",
        "_sink",
        "span_id",
        "trace_id",
        "traceparent",
    )

    trace_id: str | None
    span_id: str | None
    traceparent: str | None
    """Of the batch span; None: tracing is off."""

    def __init__(
        self,
        sink: Sink,
        propagation: Propagation,
        queue: str,
        messages: Sequence[MessageTrace],
        record: Record | None,
    ) -> None:
        self._sink = sink
        self._propagation = propagation
        self._queue = queue
        self._messages = messages
        self._record = record
        self._out: list[Record] = []
        self.trace_id = self.span_id = self.traceparent = None
        if record is not None:
            self.trace_id, self.span_id = record.trace, record.span
            self.traceparent = TraceContext(record.trace, record.span, record.flags).traceparent

    def on_query(self, record: Any) -> None:
        """asyncpg's query logger: `with connection.query_logger(trace.on_query):`.

        asyncpg calls it in the next iteration of the loop, so a span's place is as exact as that.
        """
        if not self._recording:
            return
        end = time.time_ns()
        shape = semconv.statement(record.query, record.conn_params.database, record.conn_addr)
        child = self._child(shape)
        child.start_ns, child.end_ns = end - int(record.elapsed * 1e9), end
        if record.exception is not None:
            child.error = error_type(record.exception)
            if code := getattr(record.exception, "sqlstate", None):
                child.attributes = {semconv.STATUS_CODE: code}
        self._add(child)

    def send(self, exchange: str, count: int = 1, *, routing_key: str | None = None) -> Step:
        """`send <exchange>`, PRODUCER: inject its context into the messages that are published.

        Pass a routing key only if all messages share it and it comes from a bounded set.
        """
        return self._step(semconv.send(exchange, routing_key), count_of(semconv.MESSAGE_COUNT, count))

    def settle(self, count: int) -> Step:
        """`settle <queue>`, CLIENT: the acknowledgement of `count` messages."""
        return self._step(semconv.settle(self._queue), count_of(semconv.MESSAGE_COUNT, count))

    def redis(self, operation: str, *, batch: int = 1) -> Step:
        """A Redis command, or a pipeline of `batch` commands; `operation` as in "EVALSHA", never a key."""
        return self._step(semconv.redis(operation), count_of(semconv.BATCH_SIZE, batch))

    def step(self, name: str, kind: SpanKind, attributes: Mapping[str, Value] = NONE) -> Step:
        """Any other child span; `name` comes from a bounded set."""
        return self._step(Shape(name, kind), attributes)

    def end(
        self,
        *,
        trigger: str,
        size: int,
        repeats: int = 0,
        error: BaseException | None = None,
        decided: bool = True,
    ) -> None:
        """The attempt is over: build all finished spans and hand them on.

        Args:
            trigger: what closed the batch.
            size: its events.
            repeats: how many of them had been seen before.
            error: why it was rolled back; only its class is told, never its message.
            decided: False when the events will be tried again; their spans then wait for that.
        """
        now = time.time_ns()
        out = self._out
        record = self._record
        recorded = record is not None and bool(record.flags & SAMPLED)
        if decided:
            back = (Target(record.trace, record.span),) if record is not None and recorded else ()
            for message in self._messages:
                message.settle(back, now, out)
        if record is not None and recorded:
            record.end_ns = now
            record.error = None if error is None else error_type(error)
            record.attributes = {
                semconv.MESSAGE_COUNT: len(record.links) + record.dropped_links,
                semconv.BATCH_EVENTS: size,
                semconv.BATCH_REPEATS: repeats,
                semconv.BATCH_TRIGGER: trigger,
                semconv.BATCH_DECIDED: decided,
            }
            out.append(record)
        self._messages = ()
        self._out = []
        if out:
            self._sink.hand_over(out)

    @property
    def recorded_id(self) -> str | None:
        """The trace's id, if the span is exported: who follows it finds something."""
        return self.trace_id if self._recording else None

    @property
    def _recording(self) -> bool:
        return self._record is not None and bool(self._record.flags & SAMPLED)

    def _child(self, shape: Shape, attributes: Attributes = NONE) -> Record:
        batch = self._record
        assert batch is not None
        return Record(shape, batch.trace, new_span_id(), batch.span, 0, batch.flags, attributes=attributes)

    def _step(self, shape: Shape, attributes: Attributes = NONE) -> Step:
        record = None if self._record is None else self._child(shape, attributes)
        return Step(record, self._propagation, self._out)

    def _add(self, child: Record) -> None:
        if self._record is not None and self._record.end_ns:
            self._sink.hand_over((child,))  # a query logger's call that came after the end
        else:
            self._out.append(child)
