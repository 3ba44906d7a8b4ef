"""What a producer writes is what a handler reads, in every CloudEvents mode; the outbox keeps bytes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.agents import AgentEvent
from schemas.envelope import Event, event_types
from schemas.tasks import TaskEvent
from schemas.votes import VoteEvent
from streams import outbox
from streams.acks import AckTracker
from streams.decode import BATCH, BINARY, STRUCTURED, Decoder, Window
from streams.delivery import Delivery
from streams.publisher import Outgoing
from tests.making import START
from tests.property.strategies import AGENTS, ROUNDS, TASKS, agents_of, tasks_of, votes_of

DECODER = Decoder(
    event_types(TaskEvent) | event_types(VoteEvent) | event_types(AgentEvent),
    Window(timedelta(days=365), timedelta(days=1)),
    max_bytes=1_000_000,
    max_events=1_000,
)
EVENTS = st.one_of(tasks_of(TASKS, AGENTS), votes_of(ROUNDS, AGENTS), agents_of(AGENTS))


async def _ack(tag: int) -> None: ...


def decode(body: bytes, content_type: str, **properties: Any) -> list[Event]:
    fields: dict[str, Any] = {
        "headers": {}, "message_id": None, "type": None, "timestamp": None, "app_id": None, "exchange": "x",
        "routing_key": "", "tag": 1, "acks": AckTracker(_ack), "received_ns": 0,
    }  # fmt: skip
    delivery = Delivery(body=body, content_type=content_type, **(fields | properties))
    items = DECODER.decode(delivery, START)
    assert [item.error for item in items if item.error] == []
    assert delivery.open_events == len(items)
    return [item.event for item in items if item.event is not None]


def written(event: Event) -> bytes:
    return Event.model_copy(event, update={"specversion": "1.0"}).model_dump_json(exclude_none=True).encode()


@given(EVENTS)
def test_structured(event: Event) -> None:
    assert decode(written(event), STRUCTURED) == [event]


@given(st.lists(EVENTS, min_size=1, max_size=20))
def test_batch(events: list[Event]) -> None:
    assert decode(b"[" + b",".join(map(written, events)) + b"]", BATCH) == events


@given(EVENTS, st.sampled_from(["cloudEvents:", "cloudEvents_"]))
def test_binary(event: Event, prefix: str) -> None:
    body = event.data.model_dump_json(exclude_none=True).encode()
    time = {f"{prefix}time": event.time.isoformat()}
    properties = {"message_id": event.id, "type": event.type, "app_id": event.source}
    assert decode(body, BINARY, headers=time, **properties) == [event]


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=10), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_the_outbox_keeps_messages_to_the_byte(events: list[Event], headers: dict[str, str]) -> None:
    messages = [Outgoing.of(event, headers) for event in events]
    assert outbox.decode(outbox.encode(messages)) == messages


@given(EVENTS, EVENTS)
def test_stamps_sort_as_time_rank_source_and_id_do(first: Event, second: Event) -> None:
    def order(event: Event) -> tuple[Any, ...]:
        return event.time, event.rank, event.source, event.id

    assert (first.stamp < second.stamp) == (order(first) < order(second))
