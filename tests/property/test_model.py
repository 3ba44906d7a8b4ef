"""Random streams on a real database, by two workers at once, end as the model says.

Events of all families come up to three times, split into batches at random; statements of the two
workers are interleaved at random; some transactions are rolled back and run again later.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import tasks
from handlers.recount import recompute
from schemas.fields import dated
from schemas.votes import RoundDecided
from tests.making import handle, handler_of
from tests.property import model
from tests.property.interleaving import Gate, Interleaving
from tests.property.strategies import AGENTS, ROUNDS, TASKS, agents_of, distinct, tasks_of, votes_of

EXAMPLES = int(os.environ.get("STREAMS_TEST_EXAMPLES", "200"))

Job = tuple[list[Any], bool]
"""A batch, and whether its first transaction is rolled back."""

events = st.one_of(
    tasks_of(TASKS, AGENTS), votes_of(ROUNDS, AGENTS), votes_of(ROUNDS, AGENTS), agents_of(AGENTS)
)

TABLES = ("tasks", "rounds", "votes", "round_tallies", "agents", "agent_registry", "agent_scores")


@st.composite
def scripts(draw: st.DrawFn) -> tuple[list[Any], list[list[Job]], list[int]]:
    """(events, the jobs of each worker, whose turn it is)"""
    once = draw(distinct(events, min_size=8, max_size=32))
    copies = draw(st.lists(st.integers(1, 3), min_size=len(once), max_size=len(once)))
    sent = draw(st.permutations([event for event, n in zip(once, copies, strict=True) for _ in range(n)]))
    jobs: list[list[Job]] = [[], []]
    while sent:
        size = draw(st.integers(1, 8))
        batch, sent = sent[:size], sent[size:]
        batch = sorted(batch, key=lambda event: handler_of(event).__name__)
        for _, family in groupby(batch, key=lambda event: handler_of(event).__name__):
            jobs[draw(st.integers(0, 1))].append((list(family), draw(st.integers(0, 4)) == 0))
    return once, jobs, draw(st.lists(st.integers(0, 1), min_size=8, max_size=40))


class Rollback(Exception):
    pass


class Run:
    """What the workers did: committed batches in order, and the decisions that they announced."""

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []
        self.decided: list[RoundDecided] = []

    async def worker(self, gate: Gate, jobs: Sequence[Job]) -> None:
        for batch, fails_first in jobs:
            if fails_first:
                await self._attempt(gate, batch, commit=False)
            await self._attempt(gate, batch, commit=True)

    async def _attempt(self, gate: Gate, batch: list[Any], *, commit: bool) -> None:
        transaction = gate.connection.transaction()
        await transaction.start()
        try:
            changes = await handle(gate, batch)
            if not commit:
                raise Rollback
        except Rollback:
            await gate.step(transaction.rollback)
        else:
            await gate.step(transaction.commit)
            self.commits.append(batch)
            self.decided += [event for event in changes.events if isinstance(event, RoundDecided)]


@pytest.fixture(autouse=True)
def short_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two new tasks are enough for COPY, so that both ways meet."""
    monkeypatch.setattr(tasks, "LOAD", 2)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
async def test_any_stream_ends_as_the_model_says(
    database: asyncpg.Pool, script: tuple[list[Any], list[list[Job]], list[int]]
) -> None:
    once, jobs, turns = script
    run = Run()
    async with database.acquire() as watch, database.acquire() as one, database.acquire() as two:
        await watch.execute(";".join(f"DELETE FROM {table}" for table in TABLES))  # faster than TRUNCATE
        gates = [Gate(one), Gate(two)]
        await Interleaving(watch, gates, turns).run(
            lambda gate: run.worker(gate, jobs[0]), lambda gate: run.worker(gate, jobs[1])
        )
        await assert_entities(watch, once)
        decided = await assert_decisions(watch, run)
        await assert_scores(watch, once, decided)


async def assert_entities(connection: Any, once: list[Any]) -> None:
    """Tasks, agents, rounds, votes and tallies."""
    told = [event for event in once if event.type.startswith("task.")]
    agents = [event for event in once if event.type.startswith("agent.")]
    votes = [event for event in once if event.type.startswith(("round.", "vote."))]
    assert await rows(connection, "tasks", model.task_rows(told)) == model.task_rows(told)
    assert await rows(connection, "agents", model.agent_rows(agents)) == model.agent_rows(agents)
    assert await rows(connection, "rounds", model.round_rows(votes)) == model.round_rows(votes)
    stored = await connection.fetch("SELECT * FROM votes")
    expected = model.vote_rows(votes)
    assert {
        (row["round_id"], row["agent_id"]): plain(row, next(iter(expected.values()))) for row in stored
    } == expected
    counts = await connection.fetch("SELECT * FROM round_tallies WHERE votes <> 0 OR weight <> 0")
    assert {
        (row["round_id"], row["choice"]): (row["weight"], row["votes"]) for row in counts
    } == model.tallies(votes)


async def rows(connection: Any, table: str, expected: dict[UUID, model.Row]) -> dict[UUID, model.Row]:
    """The stored rows by id, with the columns that the model has."""
    found = await connection.fetch(f"SELECT * FROM {table}")
    assert len(found) == len({row["id"] for row in found}) == len(expected)
    for row in found:
        assert table == "agents" or row["created_at"] == dated(row["id"])
    return {row["id"]: plain(row, next(iter(expected.values()))) for row in found}


def plain(row: asyncpg.Record, columns: model.Row) -> model.Row:
    json = {"payload", "result", "error"}
    return {name: orjson.loads(row[name]) if name in json and row[name] else row[name] for name in columns}


async def assert_decisions(connection: Any, run: Run) -> dict[UUID, tuple[str, datetime]]:
    """Each round is decided by the first commit that reached its quorum, announced once, or not at all."""
    announced = Counter(event.data.round_id for event in run.decided)
    assert set(announced.values()) <= {1}
    found = await connection.fetch("SELECT * FROM rounds WHERE decided_at IS NOT NULL")
    assert {row["id"] for row in found} == set(announced)
    batches = [[event for event in batch if hasattr(event.data, "round_id")] for batch in run.commits]
    right = {round_id: model.first_decision(batches, round_id) for round_id in ROUNDS}
    assert {round_id for round_id, decision in right.items() if decision} == set(announced)
    for row in found:
        event = next(event for event in run.decided if event.data.round_id == row["id"])
        assert (row["decided_choice"], event.data.tally, row["decided_votes"]) == right[row["id"]]
        assert orjson.loads(row["decided_tally"]) == {
            o: float(weight) for o, weight in event.data.tally.items()
        }
        assert (event.data.choice, event.data.votes) == (row["decided_choice"], row["decided_votes"])
        assert event.data.decided_at == event.time == row["decided_at"]
    return {row["id"]: (row["decided_choice"], row["decided_at"]) for row in found}


async def assert_scores(connection: Any, once: list[Any], decided: dict[UUID, tuple[str, datetime]]) -> None:
    """Days, reputations, and that a recount in SQL agrees."""
    tasks = model.task_rows(event for event in once if event.type.startswith("task."))
    counted = model.counting(event for event in once if event.type.startswith(("round.", "vote.")))
    expected = model.scores(tasks, counted, decided)
    found = {
        (row["agent_id"], row["day"]): {
            name: row[name] for name in ("completed", "failed", "agreed", "points")
        }
        for row in await connection.fetch("SELECT * FROM agent_scores")
    }
    assert {key: row for key, row in found.items() if any(row.values())} == expected
    for row in await connection.fetch("SELECT id, reputation_score FROM agents"):
        points = sum(score["points"] for (agent_id, _), score in expected.items() if agent_id == row["id"])
        assert row["reputation_score"] == points
    assert await recompute(connection) == []
