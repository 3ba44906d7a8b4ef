"""`python -m streams.bench.plain otlp|discard|none`: the baseline as a process.

AMQP_URL, DATABASE_URL and OTEL_* come from the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import structlog
import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.opentelemetry import RabbitTelemetryMiddleware
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import TypeAdapter

from schemas.agents import AgentEvent
from schemas.envelope import Event
from schemas.ids import claim_key, uuid7
from schemas.invalidations import CacheInvalidated, InvalidatedData
from schemas.tasks import TaskEvent
from schemas.votes import RoundDecided, VoteEvent
from streams.bench.discarding import Discard
from streams.bench.options import Export
from streams.bench.plain import handlers, statements
from streams.decode import STRUCTURED

_AT_ONCE = 32  # messages: more than connections, so that none of these waits
_CONNECTIONS = 10

log = structlog.get_logger(__name__)

Handle = Callable[[Any, Any], Awaitable[handlers.Effect]]


class Plain:
    """One handler for each queue; every message in a transaction of its own."""

    def __init__(self, broker: RabbitBroker) -> None:
        self._broker = broker
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def connect(self) -> None:
        url = os.environ["DATABASE_URL"]
        self._pool = await asyncpg.create_pool(url, min_size=_CONNECTIONS, max_size=_CONNECTIONS)

    def consume(self, exchange: str, queue: str, family: Any, handle: Handle) -> None:
        adapter: TypeAdapter[Event] = TypeAdapter(family)

        async def decode(message: Any) -> Event:
            return adapter.validate_json(message.body)

        @self._broker.subscriber(
            RabbitQueue(queue, declare=False),
            RabbitExchange(exchange, type=ExchangeType.TOPIC, declare=False),
            decoder=decode,
            ack_policy=AckPolicy.REJECT_ON_ERROR,
            channel=Channel(prefetch_count=_AT_ONCE),
        )
        async def on_event(event: Any) -> None:
            if not isinstance(event, RoundDecided):  # our own, which comes back on the queue of the votes
                try:
                    await self._store(event, handle)
                except Exception:
                    log.exception("not stored", type=event.type)
                    raise

    async def _store(self, event: Event, handle: Handle) -> None:
        assert self._pool is not None
        batch_id = uuid7()
        effect = None
        async with self._pool.acquire() as connection, connection.transaction():
            key = UUID(bytes=claim_key(event.source, event.id))
            if await connection.fetchval(statements.CLAIM, key):
                effect = await handle(connection, event)
                context = trace.get_current_span().get_span_context()
                await connection.execute(
                    statements.HISTORY,
                    event.time,
                    event.entity_id,
                    event.type,
                    event.source,
                    event.id,
                    batch_id,
                    f"{context.trace_id:032x}",
                    event.data.model_dump_json(exclude_unset=True),
                )
        if effect is not None:
            await self._publish(
                CacheInvalidated(
                    specversion="1.0",
                    id=f"{batch_id}:0",
                    source="plain",
                    time=datetime.now(UTC),
                    data=InvalidatedData(keys=tuple(effect.keys), tags=tuple(effect.tags)),
                ),
                *effect.events,
            )

    async def _publish(self, *events: Event) -> None:
        for event in events:
            await self._broker.publish(
                event.model_dump_json(exclude_none=True).encode(),
                exchange=RabbitExchange(event.exchange, type=ExchangeType.TOPIC, declare=False),
                routing_key=event.type,
                content_type=STRUCTURED,
                message_id=event.id,
                persist=True,
                mandatory=event.mandatory,
            )


def _middlewares(export: Export) -> list[Any]:
    if export is Export.NONE:
        return []
    provider = TracerProvider()
    exporter = OTLPSpanExporter() if export is Export.OTLP else Discard()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return [RabbitTelemetryMiddleware(tracer_provider=provider)]


def main(export: Export) -> None:
    broker = RabbitBroker(
        os.environ["AMQP_URL"], middlewares=_middlewares(export), logger=None, apply_types=False
    )
    plain = Plain(broker)
    plain.consume("tasks", "tasks.record_tasks", TaskEvent, handlers.on_task)
    plain.consume("votes", "votes.record_votes", VoteEvent | RoundDecided, handlers.on_vote)
    plain.consume("agents", "agents.record_agents", AgentEvent, handlers.on_agent)
    app = FastStream(broker, logger=None, on_startup=[plain.connect])
    uvloop.run(app.run())


if __name__ == "__main__":
    main(Export(sys.argv[1]))
