"""A batch's messages are published together, and what it changed stands only once all are confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.contract import Trigger
from schemas.ids import uuid7
from streams import pipeline as module
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.delivery import Item
from streams.publisher import Outgoing, PublishFailed
from streams.stores import Applied
from streams.telemetry import BatchTrace
from tests.storing import Letters, ack, no_wait, one_by_one, pipeline_for

_COUNT = 600


class Talkative:
    """Every attempt has this many messages."""

    attempts = 0

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied:
        self.attempts += 1
        return Applied(uuid7(), [Outgoing("x", "k", str(n), "t", b"{}") for n in range(_COUNT)])


class Slow:
    """Confirms nothing before as many messages as asked for are under way, and fails for some."""

    def __init__(self, together: int, failing: frozenset[str] = frozenset()) -> None:
        self._together = asyncio.Barrier(together)
        self._failing = failing
        self.under_way = self.most = 0
        self.sent: list[str] = []

    async def publish(self, message: Outgoing, headers: Any = None) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self._together.wait()
        self.under_way -= 1
        self.sent.append(message.message_id)
        if message.message_id in self._failing:
            self._failing = frozenset()
            raise PublishFailed("no queue took it")


async def test_confirms_are_waited_for_together_within_bounds() -> None:
    publisher, acks = Slow(8), AckTracker(ack)  # 256, 256 and 88 are whole times 8
    pipeline = pipeline_for(Talkative(), Letters(), publisher=publisher)

    await asyncio.wait_for(pipeline.run(Closed(one_by_one(3, acks), Trigger.SIZE)), 10)

    assert sorted(map(int, publisher.sent)) == list(range(_COUNT))
    assert publisher.most <= module._AT_ONCE
    assert len(acks) == 0


async def test_one_that_is_not_confirmed_has_the_batch_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.asyncio, "sleep", no_wait)
    publisher, store, acks = Slow(1, frozenset({"7"})), Talkative(), AckTracker(ack)
    pipeline = pipeline_for(store, Letters(), publisher=publisher)

    await pipeline.run(Closed(one_by_one(3, acks), Trigger.SIZE))

    assert store.attempts == 2
    assert publisher.under_way == 0, "nothing of the first attempt is still under way"
    assert publisher.sent.count("7") == 2
    assert len(acks) == 0
