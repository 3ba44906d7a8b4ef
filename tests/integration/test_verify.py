"""`verify` against a real database: rows that are right agree, every tampering is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from streams.demo.expected import Table
from streams.demo.ledger import Ledger, Sent
from streams.demo.simulator import simulate
from streams.demo.stored import Stored, decisions
from streams.demo.verify import Expected, verify

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

TAMPERINGS = {
    "a status": ("tasks", "UPDATE tasks SET status = 'pending' WHERE status = 'completed'"),
    "a result": ("tasks", """UPDATE tasks SET result = '{"files": 0}' WHERE result IS NOT NULL"""),
    "a time by a microsecond": ("tasks", "UPDATE tasks SET started_at = started_at + interval '1 us'"),
    "a lost task": ("tasks", "DELETE FROM tasks WHERE id = (SELECT id FROM tasks LIMIT 1)"),
    "a task twice": (
        "tasks",
        (
            "INSERT INTO tasks (id, created_at, updated_at)"
            " SELECT id, created_at + interval '1 us', updated_at FROM tasks LIMIT 1"
        ),
    ),
    "an option": ("rounds", "UPDATE rounds SET options = array_append(options, 'abstain')"),
    "a choice": ("votes", "UPDATE votes SET choice = 'nobody' WHERE NOT retracted"),
    "lateness": ("votes", "UPDATE votes SET late = NOT late"),
    "a tally": ("tallies", "UPDATE round_tallies SET weight = weight + 0.000001"),
    "a lost decision": ("decisions", "UPDATE rounds SET decided_choice = NULL"),
    "another decision": ("decisions", "UPDATE rounds SET decided_choice = 'nobody'"),
    "a name": ("agents", "UPDATE agents SET name = name || '!'"),
    "an agent twice": (
        "agents",
        (
            "INSERT INTO agents (id, status, created_at, updated_at)"
            " SELECT id, CASE status WHEN 'paused' THEN 'active' ELSE 'paused' END, created_at, updated_at"
            " FROM agents LIMIT 1"
        ),
    ),
    "a score": ("scores", "UPDATE agent_scores SET points = points + 1"),
    "a reputation": ("reputations", "UPDATE agents SET reputation_score = reputation_score + 1"),
    "a lost event": (
        "events in the history",
        "DELETE FROM event_history WHERE event_id = (SELECT event_id FROM event_history LIMIT 1)",
    ),
    "an event twice": (
        "events in the history",
        "INSERT INTO event_history SELECT * FROM event_history LIMIT 1",
    ),
    "an event's data": (
        "events in the history",
        """UPDATE event_history SET data = data || '{"progress": 0.999}' WHERE type = 'task.progressed'""",
    ),
}


@pytest.fixture
async def connection(database_url: str) -> Any:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def ledger(connection: Connection) -> Ledger:
    """A short story, stored as it should be by the plainest means."""
    start = datetime.now(UTC) - timedelta(seconds=10)
    events = simulate(run="r", seed=5, start=start, rate=1000, events=600)
    ledger = Ledger("r", sorted({e.source for e in events}))
    ledger.record(Sent(e.id, e.source, e.type, e.time, e.data, "structured", 0.0, 0.0) for e in events)
    await _store(connection, Expected.of(ledger.good.values()), ledger)
    return ledger


async def test_right_rows_agree(connection: Connection, ledger: Ledger) -> None:
    verdict = await verify(ledger, connection)
    assert verdict.differences == []
    assert all(check.compared for check in verdict.checks)


async def test_every_tampering_is_found(connection: Connection, ledger: Ledger) -> None:
    for name, (what, statement) in TAMPERINGS.items():
        transaction = connection.transaction()
        await transaction.start()
        assert not (await connection.execute(statement)).endswith(" 0"), name
        found = {check.what for check in (await verify(ledger, connection)).checks if check.differences}
        await transaction.rollback()
        assert what in found, name


async def _store(connection: Connection, expected: Expected, ledger: Ledger) -> None:
    decided = {
        round_id: max(choices)[1]
        for (round_id,), about in expected.rounds.items()
        if (choices := _choices(expected.tallies, round_id)) and _total(choices) >= about["quorum"]
    }
    await _insert(connection, "tasks", ("id",), expected.tasks)
    await _insert(connection, "rounds", ("id",), expected.rounds)
    await connection.executemany(
        "UPDATE rounds SET decided_choice = $2, decided_at = created_at + interval '1 s',"
        " decided_votes = 1, decided_tally = $3 WHERE id = $1",
        [(r, c, json.dumps(_tally(expected.tallies, r))) for r, c in decided.items()],
    )
    await _insert(connection, "votes", ("round_id", "agent_id"), expected.votes, stamp=b"x")
    created = {key[0]: row["created_at"] for key, row in expected.rounds.items()}
    tallies = {k: {**row, "created_at": created[k[0]]} for k, row in expected.tallies.items()}
    await _insert(connection, "round_tallies", ("round_id", "choice"), tallies)
    now = datetime.now(UTC)
    await _insert(connection, "agents", ("id",), expected.agents, created_at=now, updated_at=now)
    stored = decisions(await Stored(connection).rounds(created))
    await _insert(connection, "agent_scores", ("agent_id", "day"), expected.scores(stored))
    await connection.execute(
        "UPDATE agents a SET reputation_score = (SELECT coalesce(sum(points), 0) FROM agent_scores s"
        " WHERE s.agent_id = a.id)"
    )
    await _insert_history(connection, ledger)


async def _insert(
    connection: Connection, table: str, keys: tuple[str, ...], rows: Table, **constant: Any
) -> None:
    records = [
        {**dict(zip(keys, key, strict=True)), **row, **{k: v for k, v in constant.items() if k not in row}}
        for key, row in rows.items()
    ]
    columns = list(records[0])
    await connection.copy_records_to_table(
        table,
        columns=columns,
        records=[
            tuple(json.dumps(r[c]) if isinstance(r[c], dict) else r[c] for c in columns) for r in records
        ],
    )


async def _insert_history(connection: Connection, ledger: Ledger) -> None:
    entity = {"task": "task_id", "round": "round_id", "vote": "round_id", "agent": "agent_id"}
    await connection.copy_records_to_table(
        "event_history",
        columns=["time", "entity_id", "type", "source", "event_id", "batch_id", "data"],
        records=[
            (
                datetime.fromisoformat(sent.time),
                UUID(sent.data[entity[sent.type.partition(".")[0]]]),
                sent.type,
                sent.source,
                sent.id,
                UUID(int=1),
                json.dumps(sent.data),
            )
            for sent in ledger.good.values()
        ],
    )


def _choices(tallies: Table, round_id: UUID) -> list[tuple[Any, str]]:
    return [(row["weight"], choice) for (owner, choice), row in tallies.items() if owner == round_id]


def _total(choices: list[tuple[Any, str]]) -> Any:
    return sum(weight for weight, _ in choices)


def _tally(tallies: Table, round_id: UUID) -> dict[str, str]:
    return {choice: str(weight) for weight, choice in _choices(tallies, round_id)}
