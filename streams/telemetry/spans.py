"""The span tree of a batch, written down while it runs and handed on when it has ended.

    send tasks (the producer's)
    └── process tasks.record_tasks       one per message, and per event that has a trace of its own
            ⇅ links
    process batch tasks                  one per attempt, in a trace of its own
    ├── INSERT event_claims .. COMMIT    the database
    ├── send invalidations
    │   └── process invalidations.apply_invalidations   (the updater's) ..
    └── settle tasks.record_tasks

Spans of messages are emitted by the attempt that decides, so that a rolled-back batch leaves its own
span and no half-truths about its events.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from opentelemetry.trace import SpanKind

from streams.telemetry import semconv
from streams.telemetry.context import (
    RANDOM,
    SAMPLED,
    Propagation,
    TraceContext,
    new_span_id,
    new_trace_id,
    parse_traceparent,
)
from streams.telemetry.records import NONE, Attributes, Record, Shape, Target, Value
from streams.telemetry.sampling import Sampling

R = TypeVar("R", bound=Record)


class Sink(Protocol):
    """Where finished spans go. Never blocks and never raises."""

    def hand_over(self, records: Sequence[Record]) -> None: ...


class MessageTrace(Record):
    """One consumed message, or one event of an array that has a trace of its own: a `process` span to be.

    Keep it with the event from delivery to settlement: every attempt is traced with the same object.
    """

    __slots__ = ("failed", "owner", "pending")

    pending: int
    """Events of this message that are still to be settled."""
    owner: MessageTrace | None
    """The message that this event came in."""
    failed: int

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None: tracing is off and no traceparent came."""
        return self.trace or None

    @property
    def context(self) -> TraceContext | None:
        return TraceContext(self.trace, self.span, self.flags, self.tracestate) if self.span else None

    @property
    def traceparent(self) -> str | None:
        """Of the `process` span: send it along with a dead letter. None: tracing is off, none came."""
        context = self.context
        return context.traceparent if context else None

    def fail(self, reason: str) -> None:
        """An event of this message is quarantined, for a reason out of a bounded set."""
        self.error = reason
        self.failed += 1
        owner = self.owner
        if owner is not None:
            owner.fail(reason)

    def _settle(self, batch: Sequence[Target], now: int, out: list[Record]) -> None:
        """One event is settled; with the last one the span is over."""
        self.pending -= 1
        if self.flags & SAMPLED:
            if self.links is not batch and batch:
                self.links = (*self.links, *batch) if self.links else batch
            if self.pending == 0:
                self.end_ns = now
                if self.failed and self.owner is None:
                    self.attributes = {**self.attributes, semconv.FAILED_EVENTS: self.failed}
                out.append(self)
        if self.owner is not None:
            self.owner._settle(batch, now, out)


class Step:
    """A context manager: one span from enter to exit; an exception sets its `error.type`."""

    __slots__ = ("_out", "_propagation", "_record", "_sink", "context")

    context: TraceContext | None
    """None: tracing is off."""

    def __init__(
        self,
        record: Record | None,
        propagation: Propagation,
        out: list[Record] | None = None,
        sink: Sink | None = None,
    ) -> None:
        self._record = record
        self._propagation = propagation
        self._out = out
        self._sink = sink
        self.context = None
        if record is not None:
            self.context = TraceContext(record.trace, record.span, record.flags, record.tracestate)

    @property
    def traceparent(self) -> str | None:
        return self.context.traceparent if self.context else None

    def inject(self, headers: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Add this span's context to message headers; returns them."""
        if self.context is not None:
            self._propagation.inject(headers, self.context)
        return headers

    def set(self, name: str, value: Value) -> None:
        """Add an attribute that is known only now, as the number of rows."""
        if self._record is not None:
            self._record.attributes = {**self._record.attributes, name: value}

    def __enter__(self) -> Self:
        if self._record is not None:
            self._record.start_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        record = self._record
        if record is None or not record.flags & SAMPLED:
            return
        record.end_ns = time.time_ns()
        if error is not None:
            record.error = error_type(error)
        if self._out is not None:
            self._out.append(record)
        elif self._sink is not None:
            self._sink.hand_over((record,))


class BatchTrace:
    """One attempt at a batch. Its spans are handed on by `end`, and none before."""

    __slots__ = ("_messages", "_out", "_queue", "_record", "_tracing", "span_id", "trace_id", "traceparent")

    trace_id: str | None
    span_id: str | None
    traceparent: str | None
    """Of the batch span; None: tracing is off."""

    def __init__(
        self, tracing: Tracing, queue: str, messages: Sequence[MessageTrace], record: Record | None
    ) -> None:
        self._tracing = tracing
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
        Statements inside COPY do not reach it: use `database`.
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

    def query(self, summary: str, start_ns: int, end_ns: int, error: str | None = None) -> None:
        """A database call that was timed elsewhere (`time.time_ns`); `summary` as "COPY event_history"."""
        if not self._recording:
            return
        child = self._child(semconv.statement(summary))
        child.start_ns, child.end_ns, child.error = start_ns, end_ns, error
        self._add(child)

    def database(self, summary: str) -> Step:
        """A database call that no query logger sees; `summary` as in "COPY event_history"."""
        return self._step(semconv.statement(summary))

    def send(self, exchange: str, count: int = 1, *, routing_key: str | None = None) -> Step:
        """`send <exchange>`, PRODUCER: inject its context into the messages that are published.

        Pass a routing key only if all messages share it and it comes from a bounded set.
        """
        return self._step(semconv.send(exchange, routing_key), _count(semconv.MESSAGE_COUNT, count))

    def settle(self, count: int) -> Step:
        """`settle <queue>`, CLIENT: the acknowledgement of `count` messages."""
        return self._step(semconv.settle(self._queue), _count(semconv.MESSAGE_COUNT, count))

    def redis(self, operation: str, *, batch: int = 1) -> Step:
        """A Redis command, or a pipeline of `batch` commands; `operation` as in "EVALSHA", never a key."""
        return self._step(semconv.redis(operation), _count(semconv.BATCH_SIZE, batch))

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
                message._settle(back, now, out)
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
            self._tracing.hand_over(out)

    @property
    def _recording(self) -> bool:
        return self._record is not None and bool(self._record.flags & SAMPLED)

    def _child(self, shape: Shape, attributes: Attributes = NONE) -> Record:
        batch = self._record
        assert batch is not None  # noqa: S101 - callers looked
        return Record(shape, batch.trace, new_span_id(), batch.span, 0, batch.flags, attributes=attributes)

    def _step(self, shape: Shape, attributes: Attributes = NONE) -> Step:
        record = None if self._record is None else self._child(shape, attributes)
        return Step(record, self._tracing.propagation, self._out)

    def _add(self, child: Record) -> None:
        if self._record is not None and self._record.end_ns:
            self._tracing.hand_over((child,))  # a query logger's call that came after the end
        else:
            self._out.append(child)


class Tracing:
    """Makes spans for one process.

    Args:
        sink: takes finished spans; None switches tracing off, and everything below costs next to nothing.
        link_limit: links of a batch span; what is over is counted in its dropped links.
    """

    def __init__(
        self,
        sink: Sink | None,
        sampling: Sampling | None = None,
        *,
        link_limit: int = 2000,
        propagation: Propagation | None = None,
    ) -> None:
        self.enabled = sink is not None
        self.propagation = propagation or Propagation()
        self._sink = sink
        self._sampling = sampling or Sampling()
        self._link_limit = link_limit

    def message(
        self,
        queue: str,
        *,
        received_ns: int,
        traceparent: object = None,
        tracestate: object = None,
        message_id: str | None = None,
        body_size: int = 0,
        events: int = 1,
        delivery_count: int = 0,
    ) -> MessageTrace:
        """Note a delivery. Takes what the headers hold and never raises: a malformed context is no context.

        Args:
            received_ns: when it arrived, as of `time.time_ns`.
            events: how many events the message holds; each is settled by itself.
        """
        parent = parse_traceparent(traceparent, tracestate) if traceparent is not None else None
        attributes: dict[str, Value] = {semconv.BODY_SIZE: body_size}
        if message_id is not None:
            attributes[semconv.MESSAGE_ID] = message_id
        if events != 1:
            attributes[semconv.MESSAGE_EVENTS] = events
        if delivery_count:
            attributes[semconv.DELIVERY_COUNT] = delivery_count
        return self._message(semconv.process(queue), parent, received_ns, attributes, events)

    def event(
        self,
        message: MessageTrace,
        *,
        traceparent: object,
        tracestate: object = None,
        message_id: str | None = None,
    ) -> MessageTrace:
        """The trace of one event of an array: its own if it has a valid traceparent, else its message's."""
        parent = parse_traceparent(traceparent, tracestate) if traceparent is not None else None
        if parent is None:
            return message
        attributes: dict[str, Value] = {} if message_id is None else {semconv.MESSAGE_ID: message_id}
        event = self._message(message.shape, parent, message.start_ns, attributes, 1)
        event.owner = message
        if event.flags & message.flags & SAMPLED:
            event.links = (Target(message.trace, message.span),)
        return event

    def batch(
        self,
        stream: str,
        queue: str,
        messages: Iterable[MessageTrace],
        *,
        parent: str | None = None,
        retry_of: BatchTrace | None = None,
    ) -> BatchTrace:
        """Begin an attempt.

        Args:
            messages: one entry per event; events of an array without a trace of their own repeat their
                message's.
            parent: a traceparent to continue; without one the batch has a trace of its own.
            retry_of: the attempt that was rolled back; this one is linked to it.
        """
        entries = list(messages)
        if not self.enabled:
            return BatchTrace(self, queue, (), None)
        shape = semconv.process_batch(stream, queue)
        links: list[Target] = [
            Target(message.trace, message.span)
            for message in dict.fromkeys(entries)
            if message.flags & SAMPLED
        ]
        # A batch without a single traced event is nobody's to see; an empty one decides for itself.
        sampled = bool(links) if entries else None
        record = self._start(Record, shape, parse_traceparent(parent), time.time_ns(), NONE, sampled)
        if record.flags & SAMPLED:
            if retry_of is not None and retry_of.trace_id and retry_of.span_id:
                links.insert(0, Target(retry_of.trace_id, retry_of.span_id))
            record.links = links[: self._link_limit]
            record.dropped_links = len(links) - len(record.links)
        return BatchTrace(self, queue, entries, record)

    def settle(self, message: MessageTrace, events: int = 1) -> None:
        """Settle events that never reach a batch (undecodable, refused at the edge): `fail` them first."""
        out: list[Record] = []
        now = time.time_ns()
        for _ in range(events):
            message._settle((), now, out)
        if out:
            self.hand_over(out)

    def send(
        self, exchange: str, *, routing_key: str | None = None, parent: str | None = None, count: int = 1
    ) -> Step:
        """A `send` span outside of any batch: the outbox sweeper's, a producer's."""
        shape = semconv.send(exchange, routing_key)
        return self._standalone(shape, parent, _count(semconv.MESSAGE_COUNT, count))

    def span(
        self, name: str, kind: SpanKind, attributes: Attributes = NONE, *, parent: str | None = None
    ) -> Step:
        """Any other span outside of a batch; `name` comes from a bounded set."""
        return self._standalone(Shape(name, kind), parent, attributes)

    def hand_over(self, records: Sequence[Record]) -> None:
        if self._sink is not None:
            self._sink.hand_over(records)

    def _standalone(self, shape: Shape, parent: str | None, attributes: Attributes) -> Step:
        if not self.enabled:
            return Step(None, self.propagation)
        record = self._start(Record, shape, parse_traceparent(parent), 0, attributes)
        return Step(record, self.propagation, sink=self)

    def _message(
        self, shape: Shape, parent: TraceContext | None, start: int, attributes: Attributes, events: int
    ) -> MessageTrace:
        if self.enabled:
            trace = self._start(MessageTrace, shape, parent, start, attributes)
        elif parent is None:
            trace = MessageTrace(shape, "", "", None, start, 0)
        else:  # hand the producer's context on as it came
            trace = MessageTrace(
                shape, parent.trace_id, parent.span_id, None, start, parent.flags, parent.tracestate
            )
        trace.pending = events
        trace.owner = None
        trace.failed = 0
        return trace

    def _start(
        self,
        kind: type[R],
        shape: Shape,
        parent: TraceContext | None,
        start: int,
        attributes: Attributes,
        sampled: bool | None = None,
    ) -> R:
        if parent is None:
            trace, above, state, flags = new_trace_id(), None, None, SAMPLED | RANDOM
        else:
            trace, above, flags, state = parent
        if sampled is None and not self._sampling.follows_parent:
            sampled, attributes, state = self._sampling.decide(shape, parent, trace, attributes)
        if sampled is not None:
            flags = flags & RANDOM | (SAMPLED if sampled else 0)
        return kind(shape, trace, new_span_id(), above, start, flags, state, parent is not None, attributes)


def error_type(error: BaseException) -> str:
    """The class of an error, as `error.type`: the SQLSTATE, or the name of its class."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else type(error).__qualname__


def _count(name: str, count: int) -> Attributes:
    # The conventions forbid a batch's attributes on what handles one thing.
    return {name: count} if count != 1 else NONE
