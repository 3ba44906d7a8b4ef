"""Lanes: every event reaches one, however arrivals and busy lanes fall together."""

from __future__ import annotations

import asyncio

import uvloop

from schemas.contract import BatchPolicy
from streams.acks import AckTracker
from tests.intakes import Acknowledged, Gate, delivery, intake_for


async def test_what_arrives_while_every_lane_is_busy_does_not_wait_for_the_next_arrival() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0.01, lanes=1))
    lane = asyncio.create_task(intake.lane())
    intake.offer(delivery(1, acks))
    while intake.running == 0:
        await asyncio.sleep(0)
    intake.offer(delivery(2, acks))
    gate.open.set()
    async with asyncio.timeout(5):
        while len(gate.batches) < 2 or intake.running:
            await asyncio.sleep(0)
    assert gate.sizes == [1, 1]
    intake.drain()
    await lane
    assert len(acks) == 0


async def test_small_batches_do_not_run_side_by_side_and_full_ones_do() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0.005, lanes=3))
    lanes = [asyncio.create_task(intake.lane()) for _ in range(3)]
    intake.offer(delivery(1, acks))
    while intake.running == 0:
        await asyncio.sleep(0)
    for number in range(2, 12):
        intake.offer(delivery(number, acks))
    while intake.running < 11:
        await asyncio.sleep(0)
    assert gate.sizes == [1, 10]
    gate.open.set()
    intake.drain()
    await asyncio.gather(*lanes)


async def test_a_suspect_is_tried_alone() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    gate.open.set()
    intake = intake_for(gate, BatchPolicy(size=10, linger=0.005, lanes=1))
    for number in range(1, 6):
        intake.offer(delivery(number, acks, redelivered=9 if number == 3 else 0))
    intake.drain()
    await intake.lane()
    assert sorted(gate.sizes) == [1, 4]
    assert gate.suspects == [3]


def test_an_alarm_that_is_due_at_once_can_be_set_again_on_uvloop() -> None:
    """uvloop makes no timer below half a millisecond; what it gives instead cannot say when it rings."""

    async def offered() -> list[int]:
        gate, acks = Gate(), AckTracker(Acknowledged())
        gate.open.set()
        intake = intake_for(gate, BatchPolicy(size=10, linger=0.0004, lanes=1))
        lane = asyncio.create_task(intake.lane())
        await asyncio.sleep(0)  # the lane waits now
        intake.offer(delivery(1, acks))
        intake.offer(delivery(2, acks))
        intake.drain()
        await lane
        return gate.sizes

    assert uvloop.run(offered()) == [2]
