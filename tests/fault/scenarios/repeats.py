"""Every event several times, in any order, across the end of a month."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from streams.demo.simulator import SimEvent
from streams.demo.traffic import Planned
from tests.fault.harness.trial import Stage, trial


async def repeats(stage: Stage) -> None:
    """Published 1 to 5 times each, all shuffled; half of the events happened last month."""
    events = stage.scaled(12_000, 1_000)
    # The last hour of a month and the first of the next, the nearest that has passed.
    boundary = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if datetime.now(UTC) - boundary < timedelta(hours=2):
        boundary = (boundary - timedelta(days=1)).replace(day=1)
    rate = events / timedelta(hours=2).total_seconds()
    async with trial(stage, "1..5 times, shuffled, two months", workers=2) as here:
        messages = here.load.plan(
            events, rate=rate, start=boundary - timedelta(hours=1), arrange=_shuffled, bad=False
        )
        sent = sum(len(message.events) for message in messages)
        await here.publish(messages)
        await here.settle()
        months = await here.fetchval("SELECT count(DISTINCT date_trunc('month', created_at)) FROM tasks")
        if months < 2:
            here.row.problems.append("all tasks fell into one month")
        here.row.faults = f"{sent:,} sendings of {len(here.load.attempted):,} events"


def _shuffled(events: Sequence[SimEvent], rng: Random) -> list[Planned]:
    copies = [event for event in events for _ in range(rng.randint(1, 5))]
    rng.shuffle(copies)
    return [Planned(event, place) for place, event in enumerate(copies)]


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {"repeats": repeats}
