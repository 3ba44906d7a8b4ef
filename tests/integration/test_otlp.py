"""Spans on the wire: real receivers take them, and read what the SDK's own encoder would have written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind

from streams.telemetry import Telemetry
from streams.telemetry.otlp import Encoder, varint
from streams.telemetry.records import Record, Shape, Spans, Target
from tests.receivers import Receiver

QUEUE = "tasks.record_tasks"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(params=["over_grpc", "over_http"])
def receiver(request: pytest.FixtureRequest) -> Receiver:
    found: Receiver = request.getfixturevalue(request.param)
    return found


def trace_a_batch(telemetry: Telemetry, size: int) -> None:
    tracing = telemetry.tracing
    messages = [
        tracing.message(QUEUE, received_ns=time.time_ns(), traceparent=PARENT, message_id=f"e{number}")
        for number in range(size)
    ]
    trace = tracing.batch("tasks", QUEUE, messages)
    with trace.send("invalidations"), trace.settle(size):
        pass
    messages[0].fail("refused")
    trace.end(trigger="size", size=size)


def test_a_receiver_gets_the_whole_tree(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=agents")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000")
    telemetry = Telemetry.from_environment("worker", link_limit=2000)
    trace_a_batch(telemetry, 2000)
    assert telemetry.shutdown(20)

    assert len(receiver.requests) == 3
    assert receiver.headers[0]["x-team"] == "agents"
    assert receiver.resource["service.name"] == "agent-streams-worker"
    assert receiver.resource["deployment.environment.name"] == "test"
    spans = receiver.spans
    [batch] = [span for span in spans if span.name == "process batch tasks"]
    events = [span for span in spans if span.name == f"process {QUEUE}"]
    children = [span for span in spans if span.parent_span_id == batch.span_id]
    assert {span.name for span in children} == {"send invalidations", f"settle {QUEUE}"}
    assert [link.span_id for link in batch.links] == [span.span_id for span in events]
    assert len(events) == 2000
    assert {span.trace_id.hex() for span in events} == {TRACE}
    assert {span.links[0].span_id for span in events} == {batch.span_id}
    assert {span.kind for span in events} == {Span.SPAN_KIND_CONSUMER}
    assert events[0].status.message == "refused"
    attributes = {pair.key: pair.value.string_value for pair in events[7].attributes}
    assert attributes["messaging.message.id"] == "e7"
    assert b"streams_spans_dropped_total" not in b"".join(
        line for line in telemetry.metrics.render()[0].splitlines() if not line.startswith(b"#")
    )


def test_what_a_receiver_refuses_is_counted(receiver: Receiver) -> None:
    receiver.refusals = 1
    telemetry = Telemetry.from_environment("worker")
    trace_a_batch(telemetry, 6)
    assert telemetry.shutdown(20)
    body, _ = telemetry.metrics.render()
    assert b'streams_spans_dropped_total{reason="export_failed"} 9.0' in body


def test_nobody_listening_neither_blocks_nor_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    telemetry = Telemetry.from_environment("worker")
    trace_a_batch(telemetry, 10)
    started = time.monotonic()
    telemetry.shutdown(0.5)
    assert time.monotonic() - started < 5
    body, _ = telemetry.metrics.render()
    assert b'streams_spans_dropped_total{reason="export_failed"} 13.0' in body


VALUES = st.one_of(st.text(max_size=300), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(0.5))
NAMES = st.text("abcdefg.", min_size=1, max_size=9)
TRACES = st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}")
SPANS = st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}")


@st.composite
def written(draw: st.DrawFn) -> Record:
    parent = draw(st.none() | SPANS)
    shape = Shape(draw(st.text(max_size=40)), draw(st.sampled_from(SpanKind)), {"s": draw(VALUES)})
    record = Record(
        shape,
        draw(TRACES),
        draw(SPANS),
        parent,
        draw(st.integers(0, 2**63)),
        1,
        draw(st.sampled_from([None, "a=1,b=2", "tenant@vendor=x y"])),
        parent is not None and draw(st.booleans()),
        draw(st.dictionaries(NAMES, VALUES, max_size=4)),
    )
    record.end_ns = draw(st.integers(0, 2**63))
    record.error = draw(st.none() | st.just("40001"))
    record.links = draw(st.lists(st.builds(Target, TRACES, SPANS), max_size=4))
    record.dropped_links = draw(st.integers(0, 10**6)) if record.links else 0
    return record


@pytest.mark.parametrize(
    "limits", [SpanLimits(), SpanLimits(max_span_attributes=2, max_span_attribute_length=9)]
)
@settings(max_examples=60, deadline=None)
@given(records=st.lists(written(), min_size=1, max_size=4))
def test_our_encoding_says_what_the_sdks_says(limits: SpanLimits, records: list[Record]) -> None:
    scope = InstrumentationScope("agent-streams", "1", "https://example.org/schema")
    spans = Spans(Resource.create({"service.name": "test"}), scope, limits)
    ours = ExportTraceServiceRequest.FromString(Encoder(spans).encode(records))
    theirs = encode_spans(spans.build(records))
    for span in theirs.resource_spans[0].scope_spans[0].spans:
        if not span.status.code:
            span.ClearField("status")  # an unset status is an empty message there, and none here
    assert ours == theirs


@given(st.integers(0, 2**63 - 1))
def test_varints_are_protobufs(number: int) -> None:
    span = Span.FromString(b"\x50" + varint(number & 0xFFFFFFFF))
    assert span.dropped_attributes_count == number & 0xFFFFFFFF


def test_a_lone_surrogate_costs_nobody_a_span() -> None:
    spans = Spans(Resource.create({}), InstrumentationScope("x"), SpanLimits())
    record = Record(Shape("x", SpanKind.INTERNAL), TRACE, "1" * 16, None, 1, 1, attributes={"id": "\ud800"})
    request = ExportTraceServiceRequest.FromString(Encoder(spans).encode([record]))
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert span.attributes[0].value.string_value == "?"
