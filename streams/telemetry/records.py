"""A finished span, in the few words that it needs until somebody exports it.

`start_span` of the SDK costs 16 µs, most of it for locks, limits and look-ups that a span needs while
it lives. Ours are written down once, when they are over: a record is filled in by the hot path, and
becomes a `ReadableSpan` (or bytes, see `otlp`) in the thread that exports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from streams.telemetry.context import SAMPLED, span_context

Value = str | bool | int | float
Attributes = Mapping[str, Value]

NONE: Final[Attributes] = {}
_UNSET: Final = Status(StatusCode.UNSET)


class Shape(NamedTuple):
    """What all spans of a kind have in common. Few objects, each used for many spans."""

    name: str
    kind: SpanKind
    attributes: Attributes = NONE


class Target(NamedTuple):
    """The far end of a link."""

    trace: str
    span: str


class Record:
    """One finished span.

    `trace`, `span` and `parent` are ids in hexadecimal, `error` is the `error.type`: a class of errors,
    not a message.
    """

    __slots__ = (
        "attributes",
        "dropped_links",
        "end_ns",
        "error",
        "flags",
        "links",
        "parent",
        "parent_remote",
        "shape",
        "span",
        "start_ns",
        "trace",
        "tracestate",
    )

    def __init__(
        self,
        shape: Shape,
        trace: str,
        span: str,
        parent: str | None,
        start_ns: int,
        flags: int,
        tracestate: str | None = None,
        parent_remote: bool = False,
        attributes: Attributes = NONE,
    ) -> None:
        self.shape = shape
        self.trace = trace
        self.span = span
        self.parent = parent
        self.parent_remote = parent_remote
        self.tracestate = tracestate
        self.flags = flags
        self.start_ns = start_ns
        self.end_ns = 0
        self.attributes = attributes
        self.links: Sequence[Target] = ()
        self.dropped_links = 0
        self.error: str | None = None


class Spans:
    """Turns records into the SDK's spans, within the limits of the OTEL_* variables."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, limits: SpanLimits) -> None:
        self.resource = resource
        self.scope = scope
        self._count = limits.max_span_attributes
        self._length = limits.max_span_attribute_length

    def build(self, record: Record) -> ReadableSpan:
        parent = None
        trace, flags, state = record.trace, record.flags, record.tracestate
        if record.parent is not None:
            parent = span_context(trace, record.parent, flags, state, record.parent_remote)
        return ReadableSpan(
            name=record.shape.name,
            context=span_context(trace, record.span, flags, state, remote=False),
            parent=parent,
            resource=self.resource,
            attributes=self.attributes(record),
            links=_links(record),
            kind=record.shape.kind,
            status=_UNSET if record.error is None else Status(StatusCode.ERROR, record.error),
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=self.scope,
        )

    def attributes(self, record: Record) -> Attributes:
        """All attributes of a span, cut to the limits; `error.type` included."""
        merged: dict[str, Value] = {**record.shape.attributes, **record.attributes}
        if record.error is not None:
            merged["error.type"] = record.error
        if self._length is None and (self._count is None or len(merged) <= self._count):
            return merged
        return BoundedAttributes(self._count, merged, max_value_len=self._length)  # type: ignore[return-value]


def _links(record: Record) -> Sequence[Link]:
    links = [
        Link(span_context(target.trace, target.span, SAMPLED, None, remote=False)) for target in record.links
    ]
    if not record.dropped_links:
        return links
    bounded = BoundedList.from_seq(len(links), links)
    bounded.dropped = record.dropped_links
    return bounded
