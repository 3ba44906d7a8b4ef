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
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes as OtelAttributes

from streams.telemetry.context import SAMPLED, span_context

Value = str | bool | int | float
Attributes = Mapping[str, Value]

NONE: Final[Attributes] = {}
_ENOUGH: Final = 64  # attributes; no span of ours has half of that
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
        self.limited = self._length is not None or (self._count is not None and self._count < _ENOUGH)
        """Whether the limits are so tight that they may cut something."""

    def build(self, records: Sequence[Record]) -> list[ReadableSpan]:
        """The SDK's spans of these records, in their order."""
        memo = _Memo({}, {})
        return [self._build(record, memo) for record in records]

    def _build(self, record: Record, memo: _Memo) -> ReadableSpan:
        parent = None
        trace, flags, state = record.trace, record.flags, record.tracestate
        if record.parent is not None:
            parent = span_context(trace, record.parent, flags, state, record.parent_remote)
        context = memo.contexts[trace, record.span] = span_context(
            trace, record.span, flags, state, remote=False
        )
        return ReadableSpan(
            name=record.shape.name,
            context=context,
            parent=parent,
            resource=self.resource,
            attributes=_bounded(*self.attributes(record)),
            links=_links(record, memo) if record.links else (),
            kind=record.shape.kind,
            status=_UNSET if record.error is None else Status(StatusCode.ERROR, record.error),
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=self.scope,
        )

    def attributes(self, record: Record) -> tuple[Attributes, int]:
        """The attributes of a span, `error.type` included, and how many the limits took away."""
        merged: dict[str, Value] = {**record.shape.attributes, **record.attributes}
        if record.error is not None:
            merged["error.type"] = record.error
        if not self.limited:
            return merged, 0
        kept = list(merged.items())[: self._count]
        cut = {name: value[: self._length] if isinstance(value, str) else value for name, value in kept}
        return cut, len(merged) - len(cut)


def _bounded(attributes: Attributes, dropped: int) -> OtelAttributes:
    if not dropped:
        return attributes
    # The limits are applied by ourselves: the SDK's class logs a line for every value that it cuts.
    bounded = BoundedAttributes(None, attributes)
    bounded.dropped = dropped
    return bounded


class _Memo(NamedTuple):
    """What spans that are built together share: a batch links to its messages, and they all to it."""

    contexts: dict[tuple[str, str], SpanContext]
    links: dict[int, list[Link]]

    def link(self, target: Target) -> Link:
        known = self.contexts.get(target)
        return Link(known or span_context(target.trace, target.span, SAMPLED, None, remote=False))


def _links(record: Record, memo: _Memo) -> Sequence[Link]:
    key = id(record.links)
    links = memo.links.get(key)
    if links is None:
        links = memo.links[key] = [memo.link(target) for target in record.links]
    if not record.dropped_links:
        return links
    bounded = BoundedList.from_seq(len(links), links)
    bounded.dropped = record.dropped_links
    return bounded
