"""Spans as OTLP's JSON form has them: what Jaeger's API answers and what a collector writes into files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

CONSUMER: Final = 5
_KINDS: Final = {
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": CONSUMER,
}
_ERROR: Final = (2, "STATUS_CODE_ERROR")


@dataclass(frozen=True, slots=True)
class Link:
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A finished span; times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    service: str
    start: int
    end: int
    links: Sequence[Link] = ()
    dropped_links: int = 0
    error: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def parse(document: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of an ExportTraceServiceRequest or TracesData in JSON.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    for resource in document.get("resourceSpans", ()):
        service = _attributes(resource.get("resource", {})).get("service.name", "")
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                yield _span(span, service)


def _span(span: Mapping[str, Any], service: str) -> Span:
    attributes = _attributes(span)
    failed = span.get("status", {}).get("code") in _ERROR
    kind = span.get("kind", 0)
    return Span(
        trace_id=span["traceId"].lower(),
        span_id=span["spanId"].lower(),
        parent_id=span.get("parentSpanId", "").lower(),
        name=span["name"],
        kind=_KINDS.get(kind, 0) if isinstance(kind, str) else int(kind),
        service=service,
        start=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        links=[Link(link["traceId"].lower(), link["spanId"].lower()) for link in span.get("links", ())],
        dropped_links=int(span.get("droppedLinksCount", 0)),
        error=attributes.get("error.type", "error") if failed else "",
        attributes=attributes,
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, str]:
    return {
        pair["key"]: str(next(iter(pair.get("value", {}).values()), ""))
        for pair in holder.get("attributes", ())
    }
