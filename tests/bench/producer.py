"""The producer client beside raw aio-pika, in one run on a private broker.

    python -m tests.bench.producer [--events 20000] [--rounds 3]

Every way sends the same prepared events, persistent, mandatory and confirmed, to a topic exchange that feeds
one quorum queue. Rounds take turns, so that a busy machine is busy for all; the best round of each counts.
CPU is this process's, per event; the broker runs on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aio_pika
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from schemas.tasks import CreatedData, TaskCreated
from streams.producer import Batching, Producer, uuid7
from streams.stack import LocalStack
from tests.brokers import QUEUE, channel_to, declare

CALLERS = 500

Send = Callable[[Sequence[TaskCreated]], Awaitable[None]]


class Discard(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@dataclass
class Way:
    name: str
    send: Send
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def prepared(count: int) -> list[TaskCreated]:
    return [
        TaskCreated(
            id=str(uuid7()),
            source="bench",
            time=datetime.now(UTC),
            data=CreatedData(task_id=uuid7(), kind="research", payload={"topic": "owls", "n": n}),
        )
        for n in range(count)
    ]


def concurrently(send: Callable[[TaskCreated], Awaitable[Any]]) -> Send:
    """By `CALLERS` callers, each of whom waits for its confirm before it sends the next event."""

    async def caller(events: Any) -> None:
        for event in events:
            await send(event)

    async def send_all(events: Sequence[TaskCreated]) -> None:
        shared = iter(events)
        await asyncio.gather(*(caller(shared) for _ in range(CALLERS)))

    return send_all


def enqueuing(producer: Producer) -> Send:
    """By one caller, who waits for room alone, and for the confirms at the end."""

    async def send_all(events: Sequence[TaskCreated]) -> None:
        for event in events:
            await producer.enqueue(event)
        await producer.flush()

    return send_all


def raw(exchange: aio_pika.abc.AbstractExchange) -> Send:
    async def send(event: TaskCreated) -> None:
        message = aio_pika.Message(
            event.model_dump_json(exclude_none=True).encode(),
            content_type="application/cloudevents+json",
            message_id=event.id,
            type=event.type,
            app_id=event.source,
            timestamp=time.time(),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await exchange.publish(message, event.type, mandatory=True)

    return concurrently(send)


async def run(url: str, count: int, rounds: int) -> list[Way]:
    await declare(url, "tasks")
    traced = TracerProvider(shutdown_on_exit=False)
    traced.add_span_processor(SimpleSpanProcessor(Discard()))
    async with AsyncExitStack() as stack:

        async def producer(**options: Any) -> Producer:
            return await stack.enter_async_context(Producer(url, source="bench", **options))

        connection = await stack.enter_async_context(await aio_pika.connect(url))
        channel = await connection.channel(on_return_raises=True)
        ways = [
            Way("raw aio-pika, one event a message", raw(await channel.get_exchange("tasks", ensure=False))),
            Way("client, one event a message", concurrently((await producer()).send)),
            Way(
                "client, the same, a recorded span each",
                concurrently((await producer(tracer_provider=traced)).send),
            ),
            Way("client, batches of 100", concurrently((await producer(batching=Batching(size=100))).send)),
            Way("client, batches of 100, enqueued", enqueuing(await producer(batching=Batching(size=100)))),
        ]
        purge = (await stack.enter_async_context(channel_to(url))).get_queue
        for _ in range(rounds):
            for way in ways:
                events = prepared(count)
                await (await purge(QUEUE)).purge()
                cpu, start = time.process_time(), time.perf_counter()
                await way.send(events)
                way.rates.append(count / (time.perf_counter() - start))
                way.cpu.append((time.process_time() - cpu) / count * 1e6)
    return ways


def table(ways: Sequence[Way]) -> str:
    base = max(ways[0].rates)
    lines = ["| way | events/s | against raw aio-pika | CPU per event |", "|---|---|---|---|"]
    lines += [
        f"| {w.name} | {max(w.rates):,.0f} | {max(w.rates) / base:.1f} x | {min(w.cpu):.0f} µs |"
        for w in ways
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with LocalStack("bench-producer", unique=True) as urls:
        print(table(asyncio.run(run(urls.amqp, arguments.events, arguments.rounds))))


if __name__ == "__main__":
    main()
