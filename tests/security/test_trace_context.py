"""Trace context that came from outside: parent or link as set, never an error, and bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams.telemetry import MessageTrace, Telemetry

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def span_of(
    headers: dict[str, Any], *, link_origins: bool, event: str | None = None
) -> tuple[MessageTrace, list[ReadableSpan]]:
    """A message through a batch; its trace, and its span as exported."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry.exporting_to(exporter, link_origins=link_origins)
    tracing = telemetry.tracing
    parent, state = tracing.propagation.extract(headers)
    message = tracing.message("q", received_ns=time.time_ns(), traceparent=parent, tracestate=state)
    if event is not None:
        message = tracing.event(message, traceparent=event)
    batch = tracing.batch("s", "q", [message])
    with batch.send("invalidations") as step:
        assert "baggage" not in step.inject({})
    batch.end(trigger="size", size=1)
    assert telemetry.shutdown(10)
    spans = [span for span in exporter.get_finished_spans() if span.name == "process q"]
    return message, [span for span in spans if f"{span.context.trace_id:032x}" == message.trace]


def test_by_default_the_producers_span_is_the_parent() -> None:
    message, [span] = span_of({"traceparent": SAMPLED}, link_origins=False)
    assert message.trace == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN


@pytest.mark.parametrize("traceparent", [SAMPLED, UNSAMPLED])
def test_linked_the_trace_and_its_sampling_are_ours(traceparent: str) -> None:
    message, [span] = span_of({"traceparent": traceparent}, link_origins=True)
    assert message.trace != TRACE
    assert span.parent is None
    assert f"{TRACE}-{SPAN}" in {
        f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in span.links
    }


def test_linked_events_of_an_array_keep_both_links() -> None:
    message, [span] = span_of({}, link_origins=True, event=SAMPLED)
    assert message.trace != TRACE
    assert {f"{link.context.trace_id:032x}" for link in span.links} > {TRACE}


def test_linked_nothing_of_the_producers_is_passed_on_where_no_spans_are_made() -> None:
    tracing = Telemetry.from_environment("worker", link_origins=True).tracing
    assert tracing.message("q", received_ns=0, traceparent=SAMPLED).trace == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "rubbish"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": SAMPLED.upper()},
        {"traceparent": f"{SAMPLED}\r\nx: y"},
        {"traceparent": b"\xff\xfe"},
        {"traceparent": 7},
        {"traceparent": {"a": 1}},
        {"traceparent": "0" * 100_000},
    ],
)
def test_what_is_no_context_is_none(headers: dict[str, Any]) -> None:
    for link_origins in (False, True):
        message, [span] = span_of(headers, link_origins=link_origins)
        assert span.parent is None
        assert message.trace
        assert all(f"{link.context.trace_id:032x}" != TRACE for link in span.links)


@pytest.mark.parametrize(
    "state", ["a=" + "x" * 100_000, ",".join(f"k{n}=v" for n in range(100)), "a=b\r\nc", 9]
)
def test_a_tracestate_beyond_bounds_is_dropped_and_its_parent_kept(state: object) -> None:
    message, [span] = span_of({"traceparent": SAMPLED, "tracestate": state}, link_origins=False)
    assert (message.trace, message.tracestate) == (TRACE, None)
    assert span.parent is not None


@pytest.mark.parametrize("propagators", ["tracecontext,baggage", "baggage"])
def test_baggage_goes_no_further(propagators: str) -> None:
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from streams.telemetry.context import Propagation

    known = {"tracecontext": TraceContextTextMapPropagator(), "baggage": W3CBaggagePropagator()}
    propagation = Propagation(CompositePropagator([known[name] for name in propagators.split(",")]))
    headers = {"traceparent": SAMPLED, "baggage": "user=" + "x" * 100_000}
    assert propagation.extract(headers) == (
        (SAMPLED, None) if "tracecontext" in propagators else (None, None)
    )
