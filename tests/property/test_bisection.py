"""What a culprit costs: at most 2k⌈log2 N⌉ + 1 attempts for k of them among N, and nobody else."""

from __future__ import annotations

import asyncio
from math import ceil, log2

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.contract import Trigger
from schemas.errors import Reason, Refused
from streams.acks import AckTracker
from streams.batcher import Closed
from tests.storing import FailingStore, Letters, ack, in_an_array, one_by_one, pipeline_for


@st.composite
def crowds(draw: st.DrawFn, most: int) -> tuple[int, frozenset[int]]:
    """(N, culprits)."""
    count = draw(st.integers(1, 2_000))
    return count, draw(st.frozensets(st.integers(0, count - 1), min_size=1, max_size=min(most, count)))


def check(count: int, culprits: frozenset[int], error: Exception, reason: Reason, *, array: bool) -> None:
    async def scenario() -> None:
        store, letters, acks = (
            FailingStore(lambda numbers: error if numbers & culprits else None),
            Letters(),
            AckTracker(ack),
        )
        items = in_an_array(count, acks) if array else one_by_one(count, acks)
        await pipeline_for(store, letters).run(Closed(items, Trigger.SIZE))
        assert store.attempts <= 2 * len(culprits) * ceil(log2(count)) + 1
        assert sorted(letters.refused) == sorted(culprits)
        assert set(letters.reasons) == {reason}
        assert store.stored == set(range(count)) - culprits
        assert len(acks) == 0

    asyncio.run(scenario())


@given(crowds(most=200), st.booleans())
@example((2_000, frozenset(range(2_000))), True)
@example((1_999, frozenset({0})), False)
@settings(deadline=None, max_examples=40)
def test_events_that_the_database_refuses(crowd: tuple[int, frozenset[int]], array: bool) -> None:
    check(*crowd, Refused("no"), Reason.REFUSED, array=array)


@given(crowds(most=7).filter(lambda crowd: len(crowd[1]) < crowd[0]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_events_that_a_handler_fails_on(crowd: tuple[int, frozenset[int]], array: bool) -> None:
    check(*crowd, KeyError("a bug"), Reason.HANDLER_FAILED, array=array)
