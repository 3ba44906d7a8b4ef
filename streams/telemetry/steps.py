"""The parts of a trace: a consumed message, and a step of the work on it."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from streams.telemetry import semconv
from streams.telemetry.context import SAMPLED, Propagation, TraceContext
from streams.telemetry.records import NONE, Attributes, Record, Target, Value


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

    def settle(self, batch: Sequence[Target], now: int, out: list[Record]) -> None:
        """One event is settled; with the last one the span is over."""
        self.pending -= 1
        if self.flags & SAMPLED:
            if not self.links:
                self.links = batch
            elif self.links is not batch and not set(batch) <= set(self.links):
                self.links = (*self.links, *batch)
            if self.pending == 0:
                self.end_ns = now
                if self.failed and self.owner is None:
                    self.attributes = {**self.attributes, semconv.FAILED_EVENTS: self.failed}
                out.append(self)
        if self.owner is not None:
            self.owner.settle(batch, now, out)


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


def error_type(error: BaseException) -> str:
    """The class of an error, as `error.type`: the SQLSTATE, or the name of its class."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else type(error).__qualname__


def count_of(name: str, count: int) -> Attributes:
    # The conventions forbid a batch's attributes on what handles one thing.
    return {name: count} if count != 1 else NONE
