"""Traces as text: an event's way, across the links between traces, read back from where spans were sent."""

from streams.traceview.sources import JaegerTraces, StoredTraces, Traces, TracesUnavailable
from streams.traceview.spans import Link, Span, parse
from streams.traceview.tree import render

__all__ = [
    "JaegerTraces",
    "Link",
    "Span",
    "StoredTraces",
    "Traces",
    "TracesUnavailable",
    "parse",
    "render",
]
