"""The producer client on a real broker."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import httpx
import pytest
import uvloop
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from schemas.agents import AgentEvent
from schemas.envelope import event_types
from schemas.errors import InvalidEvent
from schemas.tasks import CreatedData, TaskEvent
from streams.decode import Decoder, Window
from streams.delivery import Delivery
from streams.producer import (
    Batching,
    BrokerRefused,
    Full,
    NotConfirmed,
    Producer,
    ProducerClosed,
    SyncProducer,
    Unroutable,
    uuid7,
)
from streams.stack import StackUrls
from tests.brokers import QUEUE, channel_to, declare, events_of, landed
from tests.support import eventually, take_all

# A quorum queue lets many more in before it refuses.
FULL_AT_ONE = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}


def task(**more: Any) -> dict[str, Any]:
    return {"task_id": uuid7(), "kind": "research", **more}


@pytest.fixture
async def url(amqp_url: str) -> str:
    """A broker in which tasks and agents land in a queue."""
    await declare(amqp_url, "tasks", "agents")
    return amqp_url


def decoded(message: aio_pika.abc.AbstractIncomingMessage) -> list[Any]:
    """What the service makes of a message."""
    window = Window(timedelta(days=365), timedelta(minutes=5))
    types = event_types(TaskEvent) | event_types(AgentEvent)
    decoder = Decoder(types, window, max_bytes=1 << 20, max_events=5000)
    delivery = Delivery(
        body=message.body,
        content_type=message.content_type or "",
        headers=message.headers,
        message_id=message.message_id,
        type=message.type,
        timestamp=message.timestamp,
        app_id=message.app_id,
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        tag=message.delivery_tag or 0,
        acks=None,  # type: ignore[arg-type]
        received_ns=0,
    )
    return [item.error or item.event for item in decoder.decode(delivery)]


async def test_what_was_sent_is_stored_once_send_returns(url: str) -> None:
    async with Producer(url, source="tests") as producer:
        event = await producer.send("task.created", task(payload={"topic": "owls", "nothing": None}))
        (message,) = await take_all(url, QUEUE)
    assert decoded(message) == [event]
    assert (message.exchange, message.routing_key) == ("tasks", "task.created")
    assert (message.message_id, message.type, message.app_id) == (event.id, "task.created", "tests")
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert "traceparent" not in message.headers, "nobody traces here"


async def test_events_of_a_type_travel_together(url: str) -> None:
    async with Producer(url, source="tests", batching=Batching(size=40, linger=30)) as producer:
        futures = [await producer.enqueue("task.created", task()) for _ in range(100)]
        futures.append(await producer.enqueue("agent.registered", {"agent_id": uuid4(), "name": "a"}))
        await eventually(
            lambda: sum(future.done() for future in futures) == 80, "two full batches are confirmed"
        )
        await producer.flush()
        assert all(future.done() for future in futures)
        statistics = producer.statistics
    messages = await take_all(url, QUEUE)
    assert sorted(len(events_of(message)) for message in messages) == [1, 20, 40, 40]
    stored = {event for message in messages for event in (e.id for e in decoded(message))}
    assert stored == {future.result().id for future in futures}
    assert (statistics.accepted, statistics.confirmed, statistics.messages) == (101, 101, 4)
    assert statistics.in_flight == statistics.in_flight_bytes == 0
    assert statistics.latency_p50 is not None


async def test_a_batch_is_closed_by_bytes_and_by_linger(url: str) -> None:
    async with Producer(
        url, source="tests", batching=Batching(size=1000, bytes=1000, linger=0.01)
    ) as producer:
        await asyncio.gather(*(producer.send("task.created", task()) for _ in range(10)))
    sizes = [len(message.body) for message in await take_all(url, QUEUE)]
    assert len(sizes) > 1
    assert max(sizes) <= 1000 + 2 + 10, "bytes of events, brackets and commas"


async def test_long_messages_are_cut_into_frames(url: str) -> None:
    async with Producer(url, source="tests") as producer:
        event = await producer.send("task.created", task(payload={"text": "owl" * 200_000}))
    (message,) = await take_all(url, QUEUE)
    assert decoded(message) == [event]


async def test_memory_is_bounded_and_callers_wait_in_line(url: str) -> None:
    async with Producer(url, source="tests", max_in_flight=50, batching=Batching(size=50)) as producer:
        high = 0

        async def send() -> None:
            nonlocal high
            await producer.send("task.created", task())
            high = max(high, producer.statistics.in_flight)

        await asyncio.gather(*(send() for _ in range(1000)))
        assert 0 < high <= 50
        held = [producer.send_nowait("task.created", task()) for _ in range(50)]
        with pytest.raises(Full, match="50 events"):
            producer.send_nowait("task.created", task())
        assert await asyncio.gather(*held)
    assert len(await landed(url)) == 1050


async def test_bytes_are_bounded_too_but_one_event_always_fits(url: str) -> None:
    async with Producer(url, source="tests", max_in_flight_bytes=5000) as producer:
        large = task(payload={"text": "x" * 20_000})
        await asyncio.gather(
            *(producer.send("task.created", data) for data in [large, *[task()] * 100, large])
        )
        assert producer.statistics.in_flight_bytes == 0
    assert len(await landed(url)) == 102


async def test_what_no_queue_takes_is_an_error_and_its_neighbours_go_on(url: str) -> None:
    async with channel_to(url) as channel:
        await channel.declare_exchange("invalidations", "topic", durable=True)
    async with Producer(url, source="tests") as producer:
        sends = [producer.send("task.created", task()) for _ in range(20)]
        sends.insert(7, producer.send("cache.invalidated", {"tags": ["agents"]}))
        results = await asyncio.gather(*sends, return_exceptions=True)
    (error,) = (result for result in results if isinstance(result, Exception))
    assert isinstance(error, Unroutable)
    assert not error.maybe_sent
    assert "NO_ROUTE (exchange 'invalidations', key 'cache.invalidated')" in str(error)
    assert len(await landed(url)) == 20


async def test_a_missing_exchange_costs_only_what_goes_there(url: str) -> None:
    """The broker closes the whole channel and does not say for which message."""
    async with Producer(url, source="tests") as producer:
        sends = [producer.send("task.created", task()) for _ in range(30)]
        vote = {"round_id": uuid7(), "agent_id": uuid4(), "choice": "a"}
        sends[10:10] = [
            producer.send("vote.cast", vote),
            producer.send("round.closed", {"round_id": uuid7()}),
        ]
        results = await asyncio.gather(*sends, return_exceptions=True)
        errors = [result for result in results if isinstance(result, Exception)]
        assert [type(error) for error in errors] == [BrokerRefused, BrokerRefused]
        assert "no exchange 'votes'" in str(errors[0])
        await producer.send("task.created", task())
        assert producer.statistics.reconnects == 0
    assert len({event["id"] for event in await landed(url)}) == 31


async def test_a_type_that_this_login_may_not_publish_costs_only_itself(url: str, stack: StackUrls) -> None:
    user, host = urlsplit(url).username, url.rpartition("/")[2]
    rights = {"exchange": "tasks", "write": r"^task\.created$", "read": ""}
    async with httpx.AsyncClient(base_url=stack.management) as management:
        (await management.put(f"/api/topic-permissions/{host}/{user}", json=rights)).raise_for_status()
    async with Producer(url, source="tests") as producer:
        sends = [producer.send("task.created", task()) for _ in range(20)]
        sends[5:5] = [producer.send("task.cancelled", {"task_id": uuid7()}) for _ in range(10)]
        results = await asyncio.gather(*sends, return_exceptions=True)
    errors = [result for result in results if isinstance(result, Exception)]
    assert [type(error) for error in errors] == [BrokerRefused] * 10
    assert "access to topic 'task.cancelled'" in str(errors[0])
    assert len(await landed(url)) >= 20


async def test_a_full_queue_is_waited_for(amqp_url: str) -> None:
    await declare(amqp_url, "tasks", **FULL_AT_ONE)
    async with Producer(amqp_url, source="tests", wait=20) as producer:
        futures = [await producer.enqueue("task.created", task()) for _ in range(5)]
        await eventually(lambda: producer.statistics.retried > 0, "the broker refuses, we try again")
        events: list[dict[str, Any]] = []

        async def all_landed() -> bool:
            events.extend(await landed(amqp_url))
            return len(events) >= 5 and all(future.done() for future in futures)

        await eventually(all_landed, "all are confirmed once there is room")
    assert sorted(event["id"] for event in events) == sorted(future.result().id for future in futures)


async def test_a_queue_that_stays_full_is_an_error_in_time(amqp_url: str) -> None:
    await declare(amqp_url, "tasks", **FULL_AT_ONE)
    async with Producer(amqp_url, source="tests", wait=0.6) as producer:
        results = await asyncio.gather(
            *(producer.send("task.created", task()) for _ in range(6)), return_exceptions=True
        )
    errors = [result for result in results if isinstance(result, NotConfirmed)]
    assert len(errors) >= 4
    assert all(isinstance(error, BrokerRefused) for error in errors)
    assert "as a full queue does" in str(errors[0])


async def test_failures_that_nobody_asked_for_are_told_by_flush_and_close(amqp_url: str) -> None:
    async with channel_to(amqp_url) as channel:
        await channel.declare_exchange("tasks", "topic", durable=True)
    producer = Producer(amqp_url, source="tests")
    await producer.start()
    futures = [await producer.enqueue("task.created", task()) for _ in range(3)]
    with pytest.raises(Unroutable):
        await producer.send("task.created", task())
    with pytest.raises(NotConfirmed, match="3 events failed") as caught:
        await producer.flush()
    assert sorted(caught.value.event_ids) == sorted(e.id for f in futures for e in f.exception().events)  # type: ignore[union-attr]
    await producer.flush()
    await producer.enqueue("task.created", task())
    with pytest.raises(NotConfirmed, match="unconfirmed event id: "):
        await producer.close()
    with pytest.raises(ProducerClosed):
        await producer.send("task.created", task())
    assert producer.statistics.state == "closed"


async def test_one_id_never_names_two_events(url: str) -> None:
    async with Producer(url, source="tests") as producer:
        data = CreatedData(task_id=uuid7(), kind="k")
        first = await producer.enqueue(data, id="one")
        with pytest.raises(InvalidEvent, match="id: is in flight with other content"):
            await producer.send("task.created", task(), id="one")
        same = producer.send(await first)
        assert (await same).id == "one"
        await producer.send("task.created", task(), id="one", source="another")
    assert len(await landed(url)) == 3


async def test_cancelling_a_send_leaves_the_rest_alone(url: str) -> None:
    async with Producer(url, source="tests", batching=Batching(linger=0.2)) as producer:
        sends = [asyncio.create_task(producer.send("task.created", task())) for _ in range(10)]
        await eventually(lambda: producer.statistics.in_flight == 10)
        sends[3].cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
    assert len(await landed(url)) == 10


async def test_logins_that_cannot_work_fail_at_once(amqp_url: str) -> None:
    for wrong in (amqp_url.replace("streams:", "nobody:"), amqp_url.rpartition("/")[0] + "/nowhere"):
        with pytest.raises(BrokerRefused):
            await asyncio.wait_for(Producer(wrong, source="tests").start(), 5)
    with pytest.raises(NotConfirmed, match=r"not connected to 127\.0\.0\.1:1: .*tried for 0\.3 s"):
        await Producer("amqp://127.0.0.1:1/", source="tests", wait=0.3).start()


def traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@pytest.fixture
def spans() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


async def test_a_message_has_a_send_span_below_its_callers(
    url: str, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, exporter = spans
    tracer = provider.get_tracer("tests")
    async with Producer(url, source="tests", tracer_provider=provider) as producer:
        with tracer.start_as_current_span("handle request") as caller:
            event = await producer.send("task.created", task())
    (sent,) = (span for span in exporter.get_finished_spans() if span.name == "send tasks")
    (message,) = await take_all(url, QUEUE)
    assert sent.kind is SpanKind.PRODUCER
    assert sent.parent is not None
    assert sent.parent.span_id == caller.get_span_context().span_id
    assert message.headers["traceparent"] == traceparent(sent.context)
    attributes = dict(sent.attributes or {})
    assert attributes["messaging.system"] == "rabbitmq"
    assert attributes["messaging.destination.name"] == "tasks:task.created"
    assert attributes["messaging.message.id"] == event.id


async def test_a_batch_is_linked_to_its_callers_and_each_event_carries_its_own(
    url: str, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, exporter = spans
    tracer = provider.get_tracer("tests")
    async with Producer(
        url, source="tests", tracer_provider=provider, batching=Batching(size=3, linger=30)
    ) as producer:
        callers = []
        for number in range(3):
            with tracer.start_as_current_span(f"caller {number}") as caller:
                await producer.enqueue("task.created", task())
                callers.append(caller.get_span_context())
        with tracer.start_as_current_span("one for all") as shared:
            for _ in range(3):
                await producer.enqueue("task.created", task())
        await producer.flush()
    mixed, common = (span for span in exporter.get_finished_spans() if span.name == "send tasks")
    first, second = await take_all(url, QUEUE)
    assert mixed.parent is None
    assert [link.context.span_id for link in mixed.links] == [caller.span_id for caller in callers]
    assert (mixed.attributes or {})["messaging.batch.message_count"] == 3
    assert [event.traceparent for event in decoded(first)] == [traceparent(caller) for caller in callers]
    assert common.parent is not None
    assert common.parent.span_id == shared.get_span_context().span_id
    assert [event.traceparent for event in decoded(second)] == [None] * 3
    assert f"{common.context.span_id:016x}" in second.headers["traceparent"]


async def test_a_failed_send_is_an_error_in_its_span(
    amqp_url: str, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, exporter = spans
    async with channel_to(amqp_url) as channel:
        await channel.declare_exchange("tasks", "topic", durable=True)
    async with Producer(amqp_url, source="tests", tracer_provider=provider) as producer:
        with pytest.raises(Unroutable):
            await producer.send("task.created", task())
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "Unroutable"


@pytest.mark.parametrize("linger", [0, 0.0002, 0.005])
async def test_it_runs_on_uvloop(url: str, linger: float) -> None:
    async def send() -> None:
        async with (
            Producer(url, source="uvloop") as single,
            Producer(url, source="uvloop", batching=Batching(linger=linger)) as batches,
        ):
            sends = [
                producer.send("task.created", task()) for producer in (single, batches) for _ in range(50)
            ]
            await asyncio.gather(*sends)

    await asyncio.to_thread(uvloop.run, send())
    assert len(await landed(url)) == 100


async def test_scripts_need_no_loop(url: str) -> None:
    def script() -> list[str]:
        with SyncProducer(url, source="script", batching=Batching(size=10)) as producer:
            with pytest.raises(InvalidEvent):
                producer.send("task.created", {"task_id": uuid7()})
            ids = [producer.send("task.created", task()).id]
            events = [producer.make("task.created", task()) for _ in range(25)]
            for event in events:
                producer.enqueue(event)
            producer.flush()
            assert producer.statistics.confirmed == 26
        with pytest.raises(RuntimeError):
            producer.send("task.created", task())
        return ids + [event.id for event in events]

    ids = await asyncio.to_thread(script)
    assert sorted(event["id"] for event in await landed(url)) == sorted(ids)
