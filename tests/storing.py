"""A pipeline without servers: stores that fail as told, and dead letters that are only counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from schemas.contract import BatchPolicy, Store, Subscription, Trigger
from schemas.errors import Reason
from schemas.ids import uuid7
from streams.acks import AckTracker
from streams.delivery import Delivery, Item
from streams.health import Health
from streams.pipeline import Pipeline
from streams.solo import Solo
from streams.stores import Applied
from streams.suspects import Court, Deaths
from streams.telemetry import BatchTrace, Telemetry
from tests.making import make, new_id


class FailingStore:
    """Counts attempts; `fails` says by the events' numbers what goes wrong, None if nothing does."""

    def __init__(self, fails: Callable[[set[int]], Exception | None]) -> None:
        self.fails = fails
        self.attempts = 0
        self.stored: set[int] = set()

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied:
        self.attempts += 1
        numbers = {item.index for item in items}
        if error := self.fails(numbers):
            raise error
        self.stored |= numbers
        return Applied(uuid7())


class Letters:
    """Who was refused, and why."""

    def __init__(self) -> None:
        self.refused: list[int] = []
        self.reasons: list[Reason] = []

    async def put(self, item: Item, reason: Reason, message: str, **_: Any) -> None:
        self.refused.append(item.index)
        self.reasons.append(reason)


class NoTrials:
    """A record in which nothing stands."""

    async def begin(self, key: object, proven: bool) -> Deaths:
        return Deaths(0, 0, 0)

    async def end(self, key: object) -> None: ...


def pipeline_for(store: Any, letters: Letters, trials: Any = None, publisher: Any = None) -> Pipeline:
    nothing: Any = None
    telemetry = Telemetry.disabled()
    return Pipeline(
        Subscription("s", "x", nothing, {}, BatchPolicy(), Store.POSTGRES, "q"),
        store,
        publisher,
        None,
        letters,  # type: ignore[arg-type]
        Court("q", Solo(), trials or NoTrials()),
        Health(),
        telemetry.tracing,
        telemetry.metrics.queue("q"),
        lambda ages, trace_id: None,
    )


_EVENT = make("task.completed", task_id=new_id())


def one_by_one(count: int, acks: AckTracker, first: int = 0) -> list[Item]:
    """Events numbered by their index, each in a message of its own."""
    items = []
    for number in range(first, first + count):
        acks.received(number + 1)
        delivery = Delivery(b"{}", "", {}, None, None, None, None, "x", "", number + 1, acks, 0)
        items.append(Item(delivery, _EVENT, index=number))
    return items


def in_an_array(count: int, acks: AckTracker) -> list[Item]:
    """Events numbered by their index, all in one message."""
    acks.received(1)
    delivery = Delivery(b"[]", "", {}, None, None, None, None, "x", "", 1, acks, 0, open_events=count)
    return [Item(delivery, _EVENT, index=number) for number in range(count)]


async def ack(tag: int) -> None: ...


async def no_wait(seconds: float) -> None: ...
