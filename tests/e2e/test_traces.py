"""From one event's trace to the transaction that stored it and to the cache update, over real OTLP."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from streams.decode import BATCH
from tests.conftest import Servers
from tests.receivers import Receiver
from tests.support import event, eventually, publish, running, settings_for

QUEUE = "troubled.record_notes"
UPDATES = "invalidations.apply_invalidations"


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [
        span for span in spans if span.parent_span_id == parent.span_id and span.trace_id == parent.trace_id
    ]


async def test_every_hop_has_its_span(servers: Servers, database: asyncpg.Pool, over_grpc: Receiver) -> None:
    producers = [(f"{number + 1:032x}", f"{number + 1:016x}") for number in range(20)]
    notes = [
        event("note.taken", {"note_id": str(uuid4())}, traceparent=f"00-{trace}-{span}-01")
        for trace, span in producers
    ]
    async with running(settings_for(servers, handlers="tests.e2e.troubled,handlers.invalidations")):
        await publish(servers.amqp, "notes", notes)
        await eventually(
            lambda: bool(named(over_grpc.spans, "send cache-bus")), "spans of the last hop arrive"
        )
    spans = over_grpc.spans  # services flush what is left when they stop

    events = named(spans, f"process {QUEUE}")
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in events} == set(producers)

    batches = [batch for batch in named(spans, "process batch troubled") if batch.links]
    assert {link.span_id for batch in batches for link in batch.links} == {span.span_id for span in events}
    by_id = {batch.span_id: batch for batch in batches}
    for span in events:
        (link,) = span.links
        assert span.span_id in {back.span_id for back in by_id[link.span_id].links}, "linked both ways"

    updates = named(spans, f"process {UPDATES}")
    for batch in batches:
        below = {span.name for span in children(spans, batch)}
        assert {"COPY event_history", "COMMIT", "send invalidations", f"settle {QUEUE}"} <= below, below
        (sent,) = (span for span in children(spans, batch) if span.name == "send invalidations")
        (update,) = (span for span in updates if span.parent_span_id == sent.span_id)
        assert update.trace_id == batch.trace_id, "the cache update is in the batch's trace"
        (follow_up,) = update.links
        (applied,) = (span for span in spans if span.span_id == follow_up.span_id)
        assert "send cache-bus" in {span.name for span in children(spans, applied)}

    stored = {row["trace_id"] for row in await database.fetch("SELECT trace_id FROM event_history")}
    assert stored == {trace for trace, _ in producers}


async def test_an_array_has_one_span_and_its_events_their_own_if_they_ask(
    servers: Servers, database: asyncpg.Pool, over_http: Receiver
) -> None:
    notes = [event("note.taken", {"note_id": str(uuid4())}) for _ in range(50)]
    notes[7]["traceparent"] = f"00-{'7' * 32}-{'7' * 16}-01"
    whole = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    async with running(settings_for(servers, handlers="tests.e2e.troubled,handlers.invalidations")):
        await publish(servers.amqp, "notes", [notes], content_type=BATCH, headers=whole)
        await eventually(
            lambda: bool(named(over_http.spans, "send cache-bus")), "spans of the last hop arrive"
        )
    traces = [span.trace_id.hex() for span in named(over_http.spans, f"process {QUEUE}")]
    assert sorted(traces) == ["7" * 32, "a" * 32]


async def test_nothing_that_producers_send_shows_in_spans(
    servers: Servers, database: asyncpg.Pool, over_grpc: Receiver
) -> None:
    secret = "correct-horse-battery-staple"
    notes = [event("note.taken", {"note_id": str(uuid4()), "trouble": secret}) for _ in range(3)]
    bad = event("note.taken", {"note_id": secret})
    async with running(settings_for(servers, handlers="tests.e2e.troubled,handlers.invalidations")):
        await publish(servers.amqp, "notes", [*notes, bad], headers={"baggage": secret})
        await eventually(
            lambda: bool(named(over_grpc.spans, "send cache-bus")), "spans of the last hop arrive"
        )
    assert over_grpc.spans
    assert secret.encode() not in b"".join(request.SerializeToString() for request in over_grpc.requests)
