"""`streams trace`: an event's way as a tree of spans."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

_TRACE_ID: Final = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?", re.IGNORECASE)


def trace(
    which: Annotated[
        str,
        typer.Argument(metavar="EVENT_ID|TRACE_ID", help="An event's id, a trace's id, or a traceparent."),
    ],
    jaeger: Annotated[str, typer.Option(help="Jaeger's query service.")] = "http://127.0.0.1:16686",
    file: Annotated[
        list[Path] | None,
        typer.Option(help="Read this file instead: OTLP in JSON, one document a line. May be repeated."),
    ] = None,
    days: Annotated[float, typer.Option(help="How far back to look for an event.")] = 7,
) -> None:
    """Show where an event went: producer, batch, statements, commit, invalidation, Redis.

    Exit code 1: not found.
    """
    from streams.traceview import JaegerTraces, StoredTraces, Traces, render

    traces: Traces = StoredTraces(file) if file else JaegerTraces(jaeger, days=days)
    lines: list[str] = []
    if match := _TRACE_ID.fullmatch(which):
        lines = render(traces, match[1].lower())
    if not lines and (found := traces.of_event(which)) is not None:
        lines = render(traces, found)
    if not lines:
        print(
            "streams trace: no such event or trace. Was it sampled? An event of an array is in the trace "
            "of its message, which has an id of its own, unless it brought a traceparent.",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print("\n".join(lines))
