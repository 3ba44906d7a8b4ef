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
from collections.abc import Iterable, Sequence
from typing import TypeVar

from opentelemetry.trace import SpanKind

from streams.telemetry import semconv
from streams.telemetry.batch import BatchTrace
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
from streams.telemetry.steps import MessageTrace, Sink, Step, count_of

R = TypeVar("R", bound=Record)


class Tracing:
    """Makes spans for one process.

    Args:
        sink: takes finished spans; None switches tracing off, and everything below costs next to nothing.
        link_limit: links of a batch span; what is over is counted in its dropped links.
        link_origins: a message's own trace context is linked, instead of being the parent: its trace is
            ours then, and whether it is sampled is ours to decide.
    """

    def __init__(
        self,
        sink: Sink | None,
        sampling: Sampling | None = None,
        *,
        link_limit: int = 2000,
        link_origins: bool = False,
        propagation: Propagation | None = None,
    ) -> None:
        self.enabled = sink is not None
        self.propagation = propagation or Propagation()
        self._sink = sink
        self._sampling = sampling or Sampling()
        self._link_limit = link_limit
        self._link_origins = link_origins

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
        replay_of: object = None,
    ) -> MessageTrace:
        """Note a delivery. Takes what the headers hold and never raises: a malformed context is no context.

        Args:
            received_ns: when it arrived, as of `time.time_ns`.
            events: how many events the message holds; each is settled by itself.
            replay_of: the traceparent of an earlier processing of the same message; it is linked to.
        """
        parent = parse_traceparent(traceparent, tracestate) if traceparent is not None else None
        attributes: dict[str, Value] = {semconv.BODY_SIZE: body_size}
        if message_id is not None:
            attributes[semconv.MESSAGE_ID] = message_id
        if events != 1:
            attributes[semconv.MESSAGE_EVENTS] = events
        if delivery_count:
            attributes[semconv.DELIVERY_COUNT] = delivery_count
        message = self._message(semconv.process(queue), parent, received_ns, attributes, events)
        if replay_of is not None and message.flags & SAMPLED and (first := parse_traceparent(replay_of)):
            message.links = (*message.links, Target(first.trace_id, first.span_id))
        return message

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
            event.links = (*event.links, Target(message.trace, message.span))
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
            return BatchTrace(self, self.propagation, queue, (), None)
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
        return BatchTrace(self, self.propagation, queue, entries, record)

    def settle(self, message: MessageTrace, events: int = 1) -> None:
        """Settle events that never reach a batch (undecodable, refused at the edge): `fail` them first."""
        out: list[Record] = []
        now = time.time_ns()
        for _ in range(events):
            message.settle((), now, out)
        if out:
            self.hand_over(out)

    def send(
        self, exchange: str, *, routing_key: str | None = None, parent: str | None = None, count: int = 1
    ) -> Step:
        """A `send` span outside of any batch: the outbox sweeper's, a producer's."""
        shape = semconv.send(exchange, routing_key)
        return self._standalone(shape, parent, count_of(semconv.MESSAGE_COUNT, count))

    def span(
        self, name: str, kind: SpanKind, attributes: Attributes = NONE, *, parent: str | None = None
    ) -> Step:
        """Any other span outside of a batch; `name` comes from a bounded set."""
        return self._standalone(Shape(name, kind), parent, attributes)

    def record(self, shape: Shape, traceparent: object, tracestate: object, attributes: Attributes) -> Record:
        """The beginning of a span whose end the caller fills in and hands over."""
        return self._start(Record, shape, parse_traceparent(traceparent, tracestate), 0, attributes)

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
        origin, parent = (parent, None) if self._link_origins else (None, parent)
        if self.enabled:
            trace = self._start(MessageTrace, shape, parent, start, attributes)
            if origin is not None and trace.flags & SAMPLED:
                trace.links = (Target(origin.trace_id, origin.span_id),)
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
            sampled = self._sampling.always
            if sampled is None:
                sampled, attributes, state = self._sampling.decide(shape, parent, trace, attributes)
        if sampled is not None:
            flags = flags & RANDOM | (SAMPLED if sampled else 0)
        return kind(shape, trace, new_span_id(), above, start, flags, state, parent is not None, attributes)
