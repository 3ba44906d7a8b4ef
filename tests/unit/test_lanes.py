"""Lanes: every event reaches one, however arrivals and busy lanes fall together."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from schemas.contract import BatchPolicy
from schemas.envelope import event_types
from schemas.ids import uuid7
from schemas.tasks import TaskEvent
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.decode import STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item
from streams.intake import Intake
from streams.telemetry import Telemetry


class Pipeline:
    """Holds each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = asyncio.Event()

    async def run(self, closed: Closed[Item]) -> None:
        self.batches.append(len(closed.items))
        await self.gate.wait()
        for item in closed.items:
            item.delivery.settle()


def intake_for(pipeline: Pipeline, policy: BatchPolicy) -> Intake:
    telemetry = Telemetry.disabled()
    decoder = Decoder(
        event_types(TaskEvent),
        Window(timedelta(days=1), timedelta(minutes=1)),
        max_bytes=10_000,
        max_events=10,
    )
    return Intake(
        "q", policy, decoder, pipeline.run, telemetry.tracing, telemetry.metrics.queue("q"),
        max_bytes=1_000_000, suspect_after=3,
    )  # fmt: skip


async def _ack(tag: int) -> None: ...


def delivery(number: int, acks: AckTracker, redelivered: int = 0) -> Delivery:
    attributes = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "test",
        "type": "task.completed",
        "time": datetime.now(UTC).isoformat(),
        "data": {"task_id": str(uuid7())},
    }
    acks.received(number)
    return Delivery(
        body=json.dumps(attributes).encode(), content_type=STRUCTURED, headers={}, message_id=None, type=None,
        timestamp=None, app_id=None, exchange="x", routing_key="", tag=number, acks=acks, received_ns=0,
        delivery_count=redelivered,
    )  # fmt: skip


async def test_what_arrives_while_every_lane_is_busy_does_not_wait_for_the_next_arrival() -> None:
    pipeline, acks = Pipeline(), AckTracker(_ack)
    intake = intake_for(pipeline, BatchPolicy(size=10, linger=0.01, lanes=1))
    lane = asyncio.create_task(intake.lane())
    await intake.accept(delivery(1, acks))
    while intake.running == 0:
        await asyncio.sleep(0)
    await intake.accept(delivery(2, acks))
    pipeline.gate.set()
    async with asyncio.timeout(5):
        while len(pipeline.batches) < 2 or intake.running:
            await asyncio.sleep(0)
    assert pipeline.batches == [1, 1]
    intake.drain()
    await lane
    assert await acks.flush() == 2


async def test_small_batches_do_not_run_side_by_side_and_full_ones_do() -> None:
    pipeline, acks = Pipeline(), AckTracker(_ack)
    intake = intake_for(pipeline, BatchPolicy(size=10, linger=0.005, lanes=3))
    lanes = [asyncio.create_task(intake.lane()) for _ in range(3)]
    await intake.accept(delivery(1, acks))
    while intake.running == 0:
        await asyncio.sleep(0)
    for number in range(2, 12):
        await intake.accept(delivery(number, acks))
    while intake.running < 11:
        await asyncio.sleep(0)
    assert pipeline.batches == [1, 10]
    pipeline.gate.set()
    intake.drain()
    await asyncio.gather(*lanes)


async def test_a_suspect_is_tried_alone() -> None:
    pipeline, acks = Pipeline(), AckTracker(_ack)
    pipeline.gate.set()
    intake = intake_for(pipeline, BatchPolicy(size=10, linger=0.005, lanes=1))
    for number in range(1, 6):
        await intake.accept(delivery(number, acks, redelivered=9 if number == 3 else 0))
    intake.drain()
    await intake.lane()
    assert sorted(pipeline.batches) == [1, 4]
