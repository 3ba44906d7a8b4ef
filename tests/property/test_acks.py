"""Acknowledgement by low-water mark: never too much, never twice, nothing forgotten."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from streams.acks import AckTracker


@given(st.permutations(list(range(1, 30))), st.sets(st.integers(1, 29)))
def test_only_settled_runs_are_acknowledged(order: list[int], flush_after: set[int]) -> None:
    sent: list[int] = []

    async def ack(tag: int) -> None:
        sent.append(tag)

    async def scenario() -> None:
        tracker = AckTracker(ack)
        for tag in range(1, 30):
            tracker.received(tag)
        settled: set[int] = set()
        for position, tag in enumerate(order):
            tracker.settled(tag)
            settled.add(tag)
            if position in flush_after:
                await tracker.flush()
                assert set(range(1, (sent[-1] if sent else 0) + 1)) <= settled
        await tracker.flush()
        assert len(tracker) == 0

    asyncio.run(scenario())
    assert sent == sorted(set(sent)), "a tag acknowledged twice closes the channel"
    assert sent[-1] == 29


def test_nothing_is_sent_on_a_channel_that_is_gone() -> None:
    async def scenario() -> None:
        async def ack(tag: int) -> None:
            raise AssertionError("a stale acknowledgement")

        tracker = AckTracker(ack)
        tracker.received(1)
        tracker.closed = True
        tracker.settled(1)
        assert await tracker.flush() == 1

    asyncio.run(scenario())
