"""The intake's bounds: what there is no room for waits undecoded, in order, and is never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import BatchPolicy
from streams.acks import AckTracker
from tests.intakes import Acknowledged, Gate, delivery, intake_for, unlimited

BODY = 230  # bytes of one event, at most


async def test_more_than_the_budget_of_bytes_waits_undecoded() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0, lanes=3), max_bytes=10_000)
    for number in range(1, 6):
        intake.offer(delivery(number, acks, padding=4_000))
    assert (intake.waiting, intake.undecoded) == (2, 3)
    assert intake.decoded_bytes <= 10_000
    lanes = [asyncio.create_task(intake.lane()) for _ in range(3)]
    gate.open.set()
    await _until(lambda: len(acks) == 0)
    assert [item.delivery.tag for batch in gate.batches for item in batch] == [1, 2, 3, 4, 5]
    intake.drain()
    await asyncio.gather(*lanes)


async def test_a_message_larger_than_the_budget_goes_in_alone() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0, lanes=1), max_bytes=1_000)
    intake.offer(delivery(1, acks, padding=5_000))
    intake.offer(delivery(2, acks))
    assert (intake.waiting, intake.undecoded) == (1, 1)
    gate.open.set()
    intake.drain()
    await intake.lane()
    assert gate.sizes == [1, 1]


async def test_no_more_events_are_decoded_than_the_lanes_next_batches_take() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0, lanes=2))
    for number in range(1, 10):
        intake.offer(delivery(number, acks, events=7))
    assert intake.waiting == 21, "20 would be enough; messages are decoded whole"
    gate.open.set()
    intake.drain()
    await asyncio.gather(intake.lane(), intake.lane())
    assert sum(gate.sizes) == 63


async def test_decoding_a_backlog_lets_others_have_their_turn() -> None:
    gate, acks = Gate(), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=1_000, linger=0, lanes=1))
    for number in range(1, 41):
        intake.offer(delivery(number, acks, events=50))
    lane = asyncio.create_task(intake.lane())
    await _until(lambda: gate.sizes == [1_000])
    ready = []
    while intake.undecoded:
        ready.append(intake.waiting)
        await asyncio.sleep(0)
    assert ready == [*range(0, 1_000, 100)], "a slice for each round of the loop"
    gate.open.set()
    intake.drain()
    await lane
    assert sum(gate.sizes) == 2_000


async def test_what_waits_for_a_channel_that_is_gone_is_forgotten() -> None:
    gate, old, new = Gate(), AckTracker(Acknowledged()), AckTracker(Acknowledged())
    intake = intake_for(gate, BatchPolicy(size=10, linger=0, lanes=1), max_bytes=10_000)
    for number in range(1, 6):
        intake.offer(delivery(number, old, padding=4_000))
    old.closed = True
    intake.offer(delivery(1, new, padding=4_000))
    assert (intake.waiting, intake.undecoded) == (1, 0)
    gate.open.set()
    intake.drain()
    await intake.lane()
    assert [item.delivery.acks for batch in gate.batches for item in batch] == [new]
    assert (len(new), intake.decoded_bytes) == (0, 0)


async def test_what_is_disowned_takes_no_room_and_acknowledges_nothing() -> None:
    gate, acknowledged, budget = Gate(), Acknowledged(), unlimited()
    acks = AckTracker(acknowledged)
    intake = intake_for(gate, BatchPolicy(size=2, linger=0, lanes=1), max_bytes=10_000, budget=budget)
    lane = asyncio.create_task(intake.lane())
    for number in range(1, 6):
        intake.offer(delivery(number, acks, padding=4_000, redelivered=9 if number == 5 else 0))
    await _until(lambda: gate.suspects == [5])
    assert intake.front == (acks, 1)
    intake.disown()
    assert (intake.waiting, intake.undecoded, intake.front) == (0, 0, None)
    assert 4_000 < budget.held == intake.decoded_bytes < 5_000, "what the lane holds"
    intake.offer(delivery(6, acks))
    assert intake.waiting == 0, "what was under way when the channel was closed"
    gate.open.set()
    intake.drain()
    await lane
    assert (budget.held, intake.decoded_bytes, acknowledged.mark) == (0, 0, 0)


async def test_what_we_published_ourselves_is_acknowledged_without_a_batch() -> None:
    gate, acknowledged = Gate(), Acknowledged()
    acks = AckTracker(acknowledged)
    intake = intake_for(gate, BatchPolicy(size=10, linger=0, lanes=1), echoes=frozenset({"task.completed"}))
    intake.offer(delivery(1, acks))
    intake.offer(delivery(2, acks))
    await _until(lambda: acknowledged.mark == 2)
    assert intake.waiting == 0


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3_000), st.booleans()), max_size=40),
    st.integers(1, 3),
)
def test_every_event_reaches_a_lane_once_and_the_bounds_hold(
    arrivals: list[tuple[int, int, bool]], lanes: int
) -> None:
    async def scenario() -> None:
        gate, acks = Gate(), AckTracker(Acknowledged())
        gate.open.set()
        budget = unlimited()
        policy = BatchPolicy(size=5, linger=0.001, lanes=lanes)
        intake = intake_for(gate, policy, max_bytes=4_000, budget=budget)
        running = [asyncio.create_task(intake.lane()) for _ in range(lanes)]
        offered = 0
        for number, (events, padding, pause) in enumerate(arrivals, 1):
            intake.offer(message := delivery(number, acks, events=events, padding=padding))
            offered += events
            assert intake.decoded_bytes <= max(4_000, len(message.body), 12 * BODY + 3_000)
            assert intake.waiting < 5 * lanes + 12
            if pause:
                await asyncio.sleep(0)
        intake.drain()
        async with asyncio.timeout(10):
            await asyncio.gather(*running)
        assert sum(gate.sizes) == offered
        assert max(gate.sizes, default=0) <= 5
        assert (len(acks), intake.decoded_bytes, intake.undecoded, budget.held) == (0, 0, 0, 0)
        order = [(item.delivery.tag, item.index) for batch in gate.batches for item in batch]
        assert order == sorted(order)

    asyncio.run(scenario())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
