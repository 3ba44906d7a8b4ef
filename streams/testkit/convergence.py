"""The promise that handlers have to keep: whatever is delivered how often and in which order, one state."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.envelope import Event
from streams.testkit.kit import Crash, Given, Kit

State = dict[str, list[dict[str, Any]]]


class Diverged(AssertionError):
    """Two ways of delivering the same events ended in different states."""


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a play: what is delivered, how it ends, and whether repeats are forgotten before it."""

    events: Sequence[Event]
    crash: Crash | None
    forget: bool

    def __str__(self) -> str:
        notes = [f"crash {self.crash}"] if self.crash else []
        notes += ["the de-duplication window has passed"] if self.forget else []
        said = ", ".join(f"{event.type} {event.source}/{event.id}" for event in self.events)
        return f"[{said}]" + (f" ({'; '.join(notes)})" if notes else "")


async def play(kit: Kit, events: Sequence[Given], *, seed: int) -> list[Step]:
    """Deliver the events as a bad day would: shuffled, some twice or three times, in batches of any size,
    with crashes and recoveries; everything is stored and published at the end. Returns what was done.

    The same seed gives the same play.
    """
    steps = _script(kit, events, random.Random(seed))
    for step in steps:
        if step.forget:
            await kit.forget()
        await kit.run(step.events, crash=step.crash)
        if step.crash is not None:
            await kit.recover()
    await kit.sweep()
    return steps


async def assert_converges(
    kit: Kit,
    events: Sequence[Given],
    tables: Sequence[str],
    *,
    plays: int = 25,
    seed: int = 0,
    leave_out: Sequence[str] = (),
) -> State:
    """Check that the events end in one state, however they are delivered; returns that state.

    Every play runs in a transaction that is rolled back. Begin with an empty database, or with the rows that
    the events are to be merged into.

    Args:
        tables: whose rows are the state. Not `event_history`, which keeps each event once for each
            de-duplication window.
        plays: so many, with seeds from `seed` up; the first delivers each event once, in the order given.
        leave_out: columns that say when or how something was stored, not what.

    Raises:
        Diverged: names the play, step by step, and the rows that differ.
    """
    decoded = kit.decoded(events)
    async with kit.undone():
        for family in _families(kit, decoded):
            await kit.run(family)
        wanted = await kit.state(*tables, leave_out=leave_out)
    for number in range(seed, seed + plays):
        async with kit.undone():
            steps = await play(kit, decoded, seed=number)
            found = await kit.state(*tables, leave_out=leave_out)
        if found != wanted:
            raise Diverged(_report(number, steps, wanted, found))
    return wanted


def _script(kit: Kit, events: Sequence[Given], chance: random.Random) -> list[Step]:
    steps = []
    for family in _families(kit, kit.decoded(events)):
        sent = [event for event in family for _ in range(chance.choice((1, 1, 2, 3)))]
        chance.shuffle(sent)
        while sent:
            size = chance.randint(1, min(len(sent), 10))
            crash = chance.choice([None, None, *Crash])
            steps.append(Step(sent[:size], crash, forget=chance.random() < 0.2))
            del sent[:size]
    chance.shuffle(steps)
    return steps


def _families(kit: Kit, events: Sequence[Event]) -> list[list[Event]]:
    """The events by the handler that takes them."""
    families: dict[str, list[Event]] = {}
    for event in events:
        queue = next(s.queue for s in kit.subscriptions if event.type in s.types)
        families.setdefault(queue, []).append(event)
    return list(families.values())


def _report(seed: int, steps: Sequence[Step], wanted: State, found: State) -> str:
    lines = [f"play {seed} ends in another state than each event once, in order:"]
    lines += [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    for table in wanted:
        missing = [row for row in wanted[table] if row not in found[table]]
        added = [row for row in found[table] if row not in wanted[table]]
        lines += [f"  {table}: - {row}" for row in missing] + [f"  {table}: + {row}" for row in added]
    return "\n".join(lines)
