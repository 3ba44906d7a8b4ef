"""A trace as a tree of lines, with the batches that its events were in.

A `process` span links to the batch that took the event. The tree goes on there, marked by an arrow; of what
the batch links back to, events by the hundred, it tells the number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from streams.traceview.sources import Traces
from streams.traceview.spans import CONSUMER, Span

_ARROW: Final = "⇢ "
_DEPTH: Final = 6  # traces that follow one another; event, batch and cache update are three


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    span: Span | None = None


def render(traces: Traces, trace_id: str) -> list[str]:
    """The lines of a trace and of what followed from it; none if it is not known.

    Raises:
        TracesUnavailable: they cannot be read.
    """
    lines = list(_Tree(traces).lines(trace_id))
    spans = [line.span for line in lines if line.span is not None]
    if not spans:
        return []
    origin = min(span.start for span in spans)
    width = max(len(line.text) for line in lines)
    return [f"{'span':<{width}}   {'start':>10} {'took':>10}   service"] + [
        f"{line.text:<{width}}   {_numbers(line.span, origin)}".rstrip() for line in lines
    ]


class _Tree:
    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._known: dict[str, Sequence[Span]] = {}
        self._shown: set[str] = set()

    def lines(self, trace_id: str) -> Iterator[_Line]:
        spans = self._spans(trace_id)
        here = {span.span_id for span in spans}
        for root in [span for span in spans if span.parent_id not in here]:
            yield from self._below(root, "", "", "", 0)

    def _spans(self, trace_id: str) -> Sequence[Span]:
        if trace_id not in self._known:
            found = self._traces.trace(trace_id)
            self._known[trace_id] = sorted(found, key=lambda span: (span.start, -span.end))
        return self._known[trace_id]

    def _below(self, span: Span, first: str, indent: str, mark: str, depth: int) -> Iterator[_Line]:
        if span.span_id in self._shown:
            yield _Line(f"{first}{mark}{span.name} (above)")
            return
        self._shown.add(span.span_id)
        yield _Line(f"{first}{mark}{span.name}{_remark(span)}", span)
        inside = indent + " " * len(mark)
        children = [child for child in self._spans(span.trace_id) if child.parent_id == span.span_id]
        followed = [(far, _ARROW) for far in self._followed(span, depth)]
        below = [(child, "") for child in children] + followed
        for place, (child, arrow) in enumerate(below):
            last = place == len(below) - 1
            yield from self._below(
                child,
                inside + ("└── " if last else "├── "),
                inside + ("    " if last else "│   "),
                arrow,
                depth + bool(arrow),
            )

    def _followed(self, span: Span, depth: int) -> Iterator[Span]:
        if span.kind != CONSUMER or depth >= _DEPTH:
            return
        for link in span.links:
            far = [other for other in self._spans(link.trace_id) if other.span_id == link.span_id]
            yield from (other for other in far if other.kind != CONSUMER)


def _remark(span: Span) -> str:
    links = len(span.links) + span.dropped_links
    parts = []
    if span.kind != CONSUMER and links:
        parts.append(f"{links} link{'s' if links > 1 else ''} back, trace {span.trace_id}")
    if span.error:
        parts.append(f"failed: {span.error}")
    return f"  [{'; '.join(parts)}]" if parts else ""


def _numbers(span: Span | None, origin: int) -> str:
    if span is None:
        return ""
    return f"{_milliseconds(span.start - origin)} {_milliseconds(span.end - span.start)}   {span.service}"


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:>7.2f} ms"
