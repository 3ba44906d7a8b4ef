"""Who is refused when a handler fails: those that it failed on one by one, and nobody else."""

from __future__ import annotations

import pytest

from schemas.contract import Trigger
from schemas.errors import Reason
from streams import pipeline as module
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.delivery import Item
from tests.storing import FailingStore, Letters, ack, no_wait, one_by_one, pipeline_for
from tests.unit.test_outcome import postgres


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.asyncio, "sleep", no_wait)


class Patience:
    """Fails the test if a pipeline goes on pausing: nothing will ever change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.left = most
        monkeypatch.setattr(module.asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.left -= 1
        if self.left < 0:
            raise StillWaitingError


class StillWaitingError(BaseException):
    """A pipeline was asked to go on and rightly did not."""


@pytest.mark.parametrize("meanwhile", range(1, 40))
async def test_nobody_is_refused_who_was_not_tried(meanwhile: int) -> None:
    bad = {*range(10), 12, 39}  # innocents lie in groups that are given up on, early and late

    def fails(numbers: set[int]) -> Exception | None:
        if store.attempts == meanwhile:
            pipeline._stored_batches += 1  # another lane stores a batch
        return KeyError("a bug") if numbers & bad else None

    store, letters, acks = FailingStore(fails), Letters(), AckTracker(ack)
    pipeline = pipeline_for(store, letters)
    await pipeline.run(Closed(one_by_one(40, acks), Trigger.SIZE))

    assert set(letters.refused) == bad
    assert len(letters.refused) == len(bad)
    assert store.stored == set(range(40)) - bad
    assert len(acks) == 0


async def test_a_handler_that_fails_on_everything_refuses_one_event_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = False
    store, letters, acks = (
        FailingStore(lambda numbers: KeyError("a bug") if broken else None),
        Letters(),
        AckTracker(ack),
    )
    pipeline = pipeline_for(store, letters)
    await pipeline.run(Closed(one_by_one(1, acks), Trigger.LINGER))
    broken = True
    for number in range(1, 6):  # a quiet stream: they come alone
        Patience(monkeypatch, 30)
        try:
            await pipeline.run(Closed(one_by_one(1, acks, number), Trigger.LINGER))
        except StillWaitingError:
            assert pipeline.is_paused is False, "it gave up only because the test made it"
    assert letters.refused == [1], "the first had the benefit of the doubt; the stream has stopped"
    broken = False
    await pipeline.run(Closed(one_by_one(1, acks, 9), Trigger.LINGER))
    assert store.stored == {0, 9}


async def test_a_handler_that_never_worked_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store, letters, acks = FailingStore(lambda numbers: KeyError("a bug")), Letters(), AckTracker(ack)
    Patience(monkeypatch, 50)
    with pytest.raises(StillWaitingError):
        await pipeline_for(store, letters).run(Closed(one_by_one(1, acks), Trigger.LINGER))
    assert letters.refused == []


async def test_what_waits_behind_a_bad_event_is_called_as_a_witness() -> None:
    bad = {0, 1, 2}
    store, letters, acks = (
        FailingStore(lambda numbers: KeyError("a bug") if numbers & bad else None),
        Letters(),
        AckTracker(ack),
    )
    closed = Closed(one_by_one(1, acks), Trigger.LINGER)
    waiting = [one_by_one(1, acks, 1), one_by_one(1, acks, 2), one_by_one(5, acks, 3), one_by_one(1, acks, 8)]

    def more() -> list[Item]:
        return waiting.pop(0) if waiting else []

    await pipeline_for(store, letters).run(closed, more)
    assert sorted(letters.refused) == [0, 1, 2]
    assert store.stored == {3, 4, 5, 6, 7}
    assert len(waiting) == 1, "no more are called than it takes"


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_storm_of_lost_races_is_nobodys_fault(state: str) -> None:
    races = iter(range(60))
    store, letters, acks = (
        FailingStore(lambda numbers: postgres(state) if next(races, None) is not None else None),
        Letters(),
        AckTracker(ack),
    )
    await pipeline_for(store, letters).run(Closed(one_by_one(4, acks), Trigger.SIZE))
    assert letters.refused == []
    assert store.stored == {0, 1, 2, 3}
    assert len(acks) == 0


async def test_an_event_that_is_too_slow_by_itself_is_found() -> None:
    store, letters, acks = (
        FailingStore(lambda numbers: postgres("57014") if 2 in numbers else None),
        Letters(),
        AckTracker(ack),
    )
    await pipeline_for(store, letters).run(Closed(one_by_one(4, acks), Trigger.SIZE))
    assert letters.refused == [2]
    assert letters.reasons == [Reason.HANDLER_FAILED]
    assert store.stored == {0, 1, 3}


async def test_what_is_delivered_again_anyway_is_not_refused_twice() -> None:
    store, letters, acks = FailingStore(lambda numbers: postgres("22021")), Letters(), AckTracker(ack)
    items = one_by_one(1, acks)
    acks.closed = True
    await pipeline_for(store, letters).run(Closed(items, Trigger.LINGER))
    assert letters.refused == []
