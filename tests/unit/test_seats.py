"""Spare lanes: a queue whose neighbours rest has another transaction in flight."""

from __future__ import annotations

import asyncio

from schemas.contract import BatchPolicy
from streams.acks import AckTracker
from streams.intake import Intake
from streams.seats import Seats
from tests.intakes import Acknowledged, Gate, delivery, intake_for

POLICY = BatchPolicy(size=10, linger=0.001, lanes=1, spare=1)


class Queue:
    """An intake with all its lanes."""

    def __init__(self, seats: Seats, policy: BatchPolicy = POLICY) -> None:
        self.gate, self.acks = Gate(), AckTracker(Acknowledged())
        self.intake: Intake = intake_for(self.gate, policy, seats=seats)
        self.lanes = [asyncio.create_task(self.intake.lane()) for _ in range(policy.most_lanes)]

    def offer(self, first: int, *, batches: int) -> None:
        for number in range(first, first + batches):
            self.intake.offer(delivery(number, self.acks, events=10))

    async def begins(self, batches: int) -> None:
        async with asyncio.timeout(5):
            while len(self.gate.batches) < batches:
                await asyncio.sleep(0)

    async def end(self) -> None:
        self.gate.open.set()
        self.intake.drain()
        await asyncio.gather(*self.lanes)


async def _many_rounds() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_who_is_alone_has_a_transaction_more() -> None:
    queue = Queue(Seats())
    queue.offer(1, batches=4)
    await queue.begins(2)
    await _many_rounds()
    assert len(queue.gate.batches) == 2, "as many as its lanes, and no more"
    await queue.end()
    assert queue.gate.sizes == [10] * 4


async def test_who_is_not_alone_has_its_own_lanes_and_each_has_those() -> None:
    seats = Seats()
    one, other = Queue(seats), Queue(seats)
    one.offer(1, batches=1)
    await one.begins(1)
    other.offer(1, batches=3)
    await other.begins(1)
    one.offer(2, batches=2)
    await _many_rounds()
    assert (len(one.gate.batches), len(other.gate.batches)) == (1, 1)
    one.gate.open.set()  # all of its three are stored; then the other is alone
    await one.begins(3)
    await other.begins(2)
    await asyncio.gather(one.end(), other.end())
    assert (sum(one.gate.sizes), sum(other.gate.sizes)) == (30, 30)


async def test_spare_lanes_end_with_the_others_even_if_they_never_ran() -> None:
    seats = Seats()
    busy, queue = Queue(seats), Queue(seats)
    busy.offer(1, batches=1)
    queue.offer(1, batches=3)
    await busy.begins(1)
    async with asyncio.timeout(5):
        await queue.end()
    assert queue.gate.sizes == [10, 10, 10]
    await busy.end()


async def test_a_spare_lane_does_not_take_part_of_a_batch() -> None:
    queue = Queue(Seats(), BatchPolicy(size=10, linger=60.0, lanes=1, spare=1))
    queue.offer(1, batches=1)
    await queue.begins(1)
    for number in range(2, 6):
        queue.intake.offer(delivery(number, queue.acks))
    await _many_rounds()
    assert queue.gate.sizes == [10]
    await queue.end()
    assert queue.gate.sizes == [10, 4]
