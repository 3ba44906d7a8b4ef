"""The events of a measurement: what the service takes, the same for a seed, and whole on the wire."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from random import Random

from pamqp import commands, frame, header

from schemas.agents import AgentEvent
from schemas.envelope import event_types
from schemas.tasks import TaskCreated, TaskEvent
from schemas.votes import VoteEvent
from streams.acks import AckTracker
from streams.bench.amqp import Producer, encode
from streams.bench.story import Creations, Message, Story, arrays, singles
from streams.decode import Decoder, Window
from streams.delivery import Delivery, Item


async def _ack(tag: int) -> None: ...


def decoded(messages: list[Message]) -> list[Item]:
    types = event_types(TaskEvent) | event_types(VoteEvent) | event_types(AgentEvent)
    decoder = Decoder(
        types, Window(timedelta(days=1), timedelta(seconds=1)), max_bytes=1 << 22, max_events=5000
    )
    items: list[Item] = []
    for message in messages:
        items += decoder.decode(
            Delivery(
                body=message.body,
                content_type=message.content_type,
                headers={"traceparent": message.traceparent},
                message_id=None,
                type=None,
                timestamp=None,
                app_id=None,
                exchange=message.exchange,
                routing_key=message.routing_key,
                tag=1,
                acks=AckTracker(_ack),
                received_ns=0,
            )
        )
    return items


def test_the_service_takes_every_event_of_the_mix() -> None:
    story = Story("test", seed=3, payload=2000)
    items = decoded(list(singles(story.events(5_000), Random(1))))
    assert [item.error for item in items if item.error] == []
    kinds = Counter(item.event.type.partition(".")[0] for item in items if item.event)
    assert abs(kinds["task"] / 4_800 - 0.85) < 0.02
    assert abs((kinds["round"] + kinds["vote"]) / 4_800 - 0.13) < 0.02
    assert story.told.events == len({item.event.id for item in items if item.event}) == 5_000


def test_what_is_told_is_what_was_said() -> None:
    story = Story("test", seed=5)
    items = decoded(list(arrays(story.events(3_000), 100, Random(1))))
    types = Counter(item.event.type for item in items if item.event)
    ids = 0
    for item in items:
        assert item.event is not None
        ids ^= int(item.event.id[-12:], 16)
    told = story.told
    assert (told.events, told.ids) == (3_000, ids)
    assert (told.tasks, told.completed) == (types["task.created"], types["task.completed"])
    assert (told.rounds, told.agents) == (types["round.opened"], types["agent.registered"])


def test_tasks_that_are_only_created_are_all_told_and_all_different() -> None:
    story = Creations("test", seed=5)
    events = [item.event for item in decoded(list(arrays(story.events(1_000), 100, Random(1))))]
    assert {event.type if event else None for event in events} == {"task.created"}
    assert len({event.data.task_id for event in events if isinstance(event, TaskCreated)}) == 1_000
    told = story.told
    assert (told.events, told.tasks, told.completed, told.rounds, told.agents) == (1_000, 1_000, 0, 0, 0)


def test_arrays_hold_events_of_one_exchange_up_to_their_size() -> None:
    messages = list(arrays(Story("test").events(2_050), 100, Random(1)))
    assert sum(message.events for message in messages) == 2_050
    assert max(message.events for message in messages) == 100
    for message in messages:
        types = {item.event.exchange for item in decoded([message]) if item.event}
        assert types == {message.exchange}


def test_a_seed_tells_one_story() -> None:
    first, second = Story("test", seed=7), Story("test", seed=7)
    lengths = [[len(event.body) for event in story.events(1_000)] for story in (first, second)]
    assert lengths[0] == lengths[1]
    assert asdict(first.told) == asdict(second.told)


def test_a_long_message_is_cut_into_frames_that_amqp_reads() -> None:
    body = b"x" * 300_000
    message = Message("tasks", "task.created", "application/json", body, f"00-{'a' * 32}-{'b' * 16}-01", 1)
    data = encode(message, frame_max=131_072)
    parts = []
    while data:
        used, channel, part = frame.unmarshal(data)
        assert channel == 1
        parts.append(part)
        data = data[used:]
    publish, head, *bodies = parts
    assert isinstance(publish, commands.Basic.Publish)
    assert isinstance(head, header.ContentHeader)
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("tasks", "task.created", True)
    properties = head.properties
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert properties.headers == {"traceparent": message.traceparent}
    assert b"".join(part.value for part in bodies) == body


def test_confirms_in_any_order_move_the_mark_without_gaps() -> None:
    producer = Producer("amqp://localhost")
    marks = []
    for tag, multiple in ((2, False), (1, False), (5, False), (4, True), (7, True)):
        producer.on_confirm(tag, multiple=multiple)
        marks.append(producer.confirmed)
    assert marks == [0, 2, 2, 5, 7]
