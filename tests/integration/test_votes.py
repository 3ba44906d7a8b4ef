"""Rounds and votes on a real database: tallies, lateness, decisions."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg
import pytest
from pydantic import TypeAdapter

from handlers.votes import DECISIONS
from schemas.votes import RoundDecided
from tests.integration.test_tasks import until_blocked
from tests.making import START, handle, make, new_id, store

ANN, BOB, CY, DAN = (uuid4() for _ in range(4))


def opened(
    round_: UUID, quorum: float, second: float = 0, options: tuple[str, ...] = ("a", "b"), **more: Any
) -> Any:
    return make("round.opened", second, round_id=round_, options=options, quorum=quorum, **more)


def cast(round_: UUID, agent: UUID, choice: str, second: float = 1, **more: Any) -> Any:
    return make("vote.cast", second, round_id=round_, agent_id=agent, choice=choice, **more)


async def tally(pool: asyncpg.Pool, round_: UUID) -> dict[str, tuple[float, int]]:
    found = await pool.fetch("SELECT * FROM round_tallies WHERE round_id = $1 AND votes <> 0", round_)
    return {row["choice"]: (float(row["weight"]), row["votes"]) for row in found}


async def test_the_latest_word_of_each_agent_is_tallied(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(database, opened(round_, 100), cast(round_, ANN, "a"), cast(round_, BOB, "b", weight=0.1))
    await store(database, cast(round_, ANN, "b", 2, weight=0.2))
    assert await tally(database, round_) == {"b": (0.3, 2)}
    await store(database, make("vote.retracted", 3, round_id=round_, agent_id=BOB))
    assert await tally(database, round_) == {"b": (0.2, 1)}
    await store(database, cast(round_, ANN, "a", 1.5))
    assert await tally(database, round_) == {"b": (0.2, 1)}, "an older word does not count"


async def test_votes_may_come_before_their_round(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(database, cast(round_, ANN, "a"), cast(round_, BOB, "elsewhere"))
    placeholder = await database.fetchrow("SELECT * FROM rounds")
    assert placeholder is not None
    assert (placeholder["options"], placeholder["decided_at"]) == (None, None)
    assert await tally(database, round_) == {"a": (1, 1), "elsewhere": (1, 1)}
    changes = await store(database, opened(round_, 1))
    assert await tally(database, round_) == {"a": (1, 1)}
    assert [event.data.choice for event in changes.events] == ["a"]


async def test_votes_after_the_end_are_late_whenever_the_end_is_learned(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(
        database,
        opened(round_, 100),
        *(cast(round_, agent, "a", n) for n, agent in enumerate((ANN, BOB, CY))),
    )
    await store(database, make("round.closed", 1, round_id=round_))
    assert await tally(database, round_) == {"a": (2, 2)}
    assert await database.fetchval("SELECT agent_id FROM votes WHERE late") == CY
    await store(database, cast(round_, DAN, "a", 5))
    assert await tally(database, round_) == {"a": (2, 2)}
    changes = await store(database, make("round.closed", 9, round_id=round_))
    assert await tally(database, round_) == {"a": (4, 4)}
    assert {f"agent:{CY}", f"agent:{DAN}"} <= changes.tags


async def test_the_announced_end_counts_if_it_comes_first(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(database, opened(round_, 100, closes_at=make("round.closed", 2, round_id=round_).time))
    await store(database, cast(round_, ANN, "a", 2), cast(round_, BOB, "a", 2.000001))
    await store(database, make("round.closed", 7, round_id=round_))
    assert await tally(database, round_) == {"a": (1, 1)}


async def test_a_decision_is_announced_once_and_stays(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(database, opened(round_, 3, options=("x", "b", "a")), cast(round_, ANN, "a", weight=1.5))
    changes = await store(database, cast(round_, BOB, "b", weight=1.5))
    (event,) = changes.events
    assert isinstance(event, RoundDecided)
    assert event.id == str(uuid5(DECISIONS, str(round_)))
    assert (event.source, event.time) == ("agent-streams", event.data.decided_at)
    assert event.data.choice == "b", "of equal ones the option that is named first"
    assert event.data.tally == {"x": Decimal(0), "b": Decimal("1.5"), "a": Decimal("1.5")}
    assert event.data.votes == 2
    assert changes.keys >= {f"q:round:{round_}"}
    assert changes.tags >= {f"round:{round_}", f"agent:{BOB}", "leaderboards"}
    again = await store(database, cast(round_, CY, "a", weight=100))
    assert again.events == []
    assert await database.fetchval("SELECT decided_choice FROM rounds") == "b"


async def test_repeats_change_nothing(database: asyncpg.Pool) -> None:
    round_ = new_id()
    life = [
        opened(round_, 2),
        cast(round_, ANN, "a"),
        cast(round_, BOB, "a"),
        make("round.closed", 5, round_id=round_),
    ]
    await store(database, *life)
    tables = ("rounds", "votes", "round_tallies", "agent_scores")
    before = [await database.fetch(f"SELECT ctid, * FROM {table}") for table in tables]
    changes = await store(database, *reversed(life), *life)
    assert (set(changes.keys), set(changes.tags), list(changes.events)) == (set(), set(), [])
    assert [await database.fetch(f"SELECT ctid, * FROM {table}") for table in tables] == before


@pytest.mark.parametrize("known", [True, False], ids=["opened before", "never heard of"])
async def test_two_workers_with_half_a_quorum_each_decide(database: asyncpg.Pool, known: bool) -> None:
    round_ = new_id()
    opening = opened(round_, 2)
    if known:
        await store(database, opening)
    async with database.acquire() as one, database.acquire() as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        early = await handle(one, [opening, cast(round_, ANN, "a")])
        waiting = asyncio.create_task(handle(two, [cast(round_, BOB, "a")]))
        await until_blocked(database, two.get_server_pid())
        await first.commit()
        late = await waiting
        await second.commit()
    assert (len(early.events), len(late.events)) == (0, 1)
    assert await database.fetchval("SELECT sum(agreed) FROM agent_scores") == 2


def test_a_decision_survives_the_wire() -> None:
    event = RoundDecided.model_validate(
        {
            "specversion": "1.0",
            "id": "i",
            "source": "s",
            "type": "round.decided",
            "time": START,
            "data": {
                "round_id": new_id(),
                "choice": "a",
                "tally": {"a": Decimal("0.3"), "b": Decimal(0), "c": Decimal("123456789012.654321")},
                "votes": 3,
                "decided_at": START,
            },
        }
    )
    body = event.model_dump_json()
    assert '"tally":{"a":0.3,"b":0,"c":"123456789012.654321"}' in body
    assert RoundDecided.model_validate_json(body) == event
    assert TypeAdapter(RoundDecided).validate_json(body) == event


def test_weights_are_exact_decimals_by_default_and_from_json_numbers() -> None:
    vote = cast(new_id(), ANN, "a")
    assert vote.data.weight == Decimal(1)
    assert type(vote.data.weight) is Decimal
    parsed = type(vote).model_validate_json(cast(new_id(), ANN, "a", weight=0.1).model_dump_json())
    assert parsed.data.weight == Decimal("0.1")
