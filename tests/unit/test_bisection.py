"""Who is refused when a handler fails: those that it failed on one by one, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.contract import BatchPolicy, Store, Subscription, Trigger
from schemas.errors import Reason
from schemas.ids import uuid7
from streams import pipeline as module
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.delivery import Delivery, Item
from streams.health import Health
from streams.pipeline import Pipeline
from streams.stores import Applied
from streams.telemetry import BatchTrace, Telemetry
from tests.making import make, new_id


class FailingStore:
    """Fails on marked events; another lane stores a batch while the `meanwhile`-th attempt runs."""

    def __init__(self, bad: set[int], meanwhile: int) -> None:
        self.bad = bad
        self.meanwhile = meanwhile
        self.attempts = 0
        self.stored: set[int] = set()
        self.pipeline: Any = None

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied:
        self.attempts += 1
        if self.attempts == self.meanwhile:
            self.pipeline._stored_batches += 1
        numbers = {item.index for item in items}
        if numbers & self.bad:
            raise KeyError("a bug")
        self.stored |= numbers
        return Applied(uuid7())


class Letters:
    def __init__(self) -> None:
        self.refused: list[int] = []

    async def put(self, item: Item, reason: Reason, message: str, **_: Any) -> None:
        self.refused.append(item.index)


async def _ack(tag: int) -> None: ...


async def _no_wait(seconds: float) -> None: ...


@pytest.mark.parametrize("meanwhile", range(1, 40))
async def test_nobody_is_refused_who_was_not_tried(monkeypatch: pytest.MonkeyPatch, meanwhile: int) -> None:
    monkeypatch.setattr(module.asyncio, "sleep", _no_wait)
    bad = {*range(10), 12, 39}  # innocents lie in groups that are given up on, early and late
    store, letters, telemetry = FailingStore(bad, meanwhile), Letters(), Telemetry.disabled()
    nothing: Any = None
    subscription = Subscription("s", "x", nothing, {}, BatchPolicy(), Store.POSTGRES, "q")
    store.pipeline = Pipeline(
        subscription, store, nothing, None, letters, Health(), telemetry.tracing,  # type: ignore[arg-type]
        telemetry.metrics.queue("q"), lambda ages: None,
    )  # fmt: skip
    acks = AckTracker(_ack)
    items = []
    for number in range(40):
        acks.received(number + 1)
        delivery = Delivery(b"{}", "", {}, None, None, None, None, "x", "", number + 1, acks, 0)
        items.append(Item(delivery, make("task.completed", task_id=new_id()), index=number))

    await store.pipeline.run(Closed(items, Trigger.SIZE))

    assert set(letters.refused) == bad
    assert len(letters.refused) == len(bad)
    assert store.stored == set(range(40)) - bad
    assert len(acks) == 0
