"""An intake without servers: deliveries made by hand, and a pipeline that a test opens and shuts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from schemas.contract import BatchPolicy, Trigger
from schemas.envelope import event_types
from schemas.ids import uuid7
from schemas.tasks import TaskEvent
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.budget import Budget
from streams.decode import BATCH, STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item
from streams.intake import Intake
from streams.pipeline import More
from streams.reader import Reader
from streams.seats import Seats
from streams.telemetry import Telemetry


class Gate:
    """A pipeline that holds each batch until it is let go; its events settle then."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.suspects: list[int] = []
        self.open = asyncio.Event()

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    async def run(self, closed: Closed[Item], more: More = list) -> None:
        self.batches.append(closed.items)
        await self.open.wait()
        for item in closed.items:
            item.delivery.settle()
        await closed.items[0].delivery.acks.flush()

    async def run_suspect(self, delivery: Delivery, read: Callable[[Delivery], list[Item]]) -> None:
        self.suspects.append(delivery.tag)
        await self.run(Closed(read(delivery), Trigger.SUSPECT))


class Acknowledged:
    """What a tracker acknowledged."""

    def __init__(self) -> None:
        self.mark = 0

    async def __call__(self, tag: int) -> None:
        self.mark = tag


def unlimited() -> Budget:
    return Budget(1 << 62, lambda: None, lambda: None)


def intake_for(
    gate: Gate,
    policy: BatchPolicy,
    *,
    max_bytes: int = 1_000_000,
    budget: Budget | None = None,
    seats: Seats | None = None,
    echoes: frozenset[str] = frozenset(),
) -> Intake:
    telemetry = Telemetry.disabled()
    decoder = Decoder(
        event_types(TaskEvent),
        Window(timedelta(days=1), timedelta(minutes=1)),
        max_bytes=1_000_000,
        max_events=100,
    )
    return Intake(
        policy, Reader("q", decoder, telemetry.tracing, echoes), gate, budget or unlimited(),
        seats or Seats(), telemetry.metrics.queue("q"), max_bytes=max_bytes, suspect_after=3,
    )  # fmt: skip


def delivery(
    number: int, acks: AckTracker, *, redelivered: int = 0, events: int = 1, padding: int = 0
) -> Delivery:
    """A message of so many events; `padding` blanks make its body larger."""
    bodies = [
        {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "test",
            "type": "task.completed",
            "time": datetime.now(UTC).isoformat(),
            "data": {"task_id": str(uuid7())},
        }
        for _ in range(events)
    ]
    acks.received(number)
    return Delivery(
        body=json.dumps(bodies[0] if events == 1 else bodies).encode() + b" " * padding,
        content_type=STRUCTURED if events == 1 else BATCH,
        headers={}, message_id=None, type=None, timestamp=None, app_id=None, exchange="x", routing_key="",
        tag=number, acks=acks, received_ns=0, delivery_count=redelivered,
    )  # fmt: skip
