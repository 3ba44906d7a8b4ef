"""What PostgreSQL holds about the entities of a ledger, in the shape that `expected` folds to.

Own SQL on purpose: the check must not look through the eyes of the code it checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from streams.demo.expected import Decision, Row

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

Rows = list[tuple[tuple[Any, ...], Row]]
"""Keys and rows as stored: a list, so that a key that is there twice shows."""

_TASKS: Final = """
SELECT id, created_at, status, kind, agent_id, user_id, priority, progress, note, payload, result, error,
       retryable, reason, assigned_at, started_at, finished_at, updated_at
FROM tasks WHERE id = ANY($1)
"""
_ROUNDS: Final = """
SELECT id, created_at, task_id, options, quorum, opened_at, closes_at, closed_at,
       decided_choice, decided_at, decided_votes, decided_tally
FROM rounds WHERE id = ANY($1)
"""
_VOTES: Final = """
SELECT round_id, agent_id, created_at, choice, weight, confidence, rationale, cast_at, retracted, late
FROM votes WHERE round_id = ANY($1)
"""
_TALLIES: Final = "SELECT round_id, choice, weight, votes FROM round_tallies WHERE round_id = ANY($1)"
_AGENTS: Final = """
SELECT id, status, name, capabilities, is_active, reputation_score FROM agents WHERE id = ANY($1)
"""
_SCORES: Final = """
SELECT agent_id, day, completed, failed, agreed, points FROM agent_scores WHERE agent_id = ANY($1)
"""
_HISTORY: Final = """
SELECT source, event_id, type, time, entity_id, batch_id, data, recorded_at
FROM event_history WHERE source = ANY($1)
"""
_COMMITS: Final = """
SELECT source, event_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS committed
FROM event_history WHERE source = ANY($1)
"""
_JSON: Final = {"payload", "result", "error", "decided_tally", "data"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row of the history."""

    type: str
    time: datetime
    entity_id: UUID | None
    batch_id: UUID
    data: dict[str, Any]
    recorded_at: datetime


class Stored:
    """Reads one database; every method returns what is there and judges nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tasks(self, ids: Iterable[UUID]) -> Rows:
        return await self._rows(_TASKS, ids, 1)

    async def rounds(self, ids: Iterable[UUID]) -> Rows:
        return await self._rows(_ROUNDS, ids, 1)

    async def votes(self, rounds: Iterable[UUID]) -> Rows:
        return await self._rows(_VOTES, rounds, 2)

    async def tallies(self, rounds: Iterable[UUID]) -> Rows:
        """Without the empty ones: a choice that everybody left is the same as one nobody took."""
        return [
            (key, row) for key, row in await self._rows(_TALLIES, rounds, 2) if row["votes"] or row["weight"]
        ]

    async def agents(self, ids: Iterable[UUID]) -> Rows:
        return await self._rows(_AGENTS, ids, 1)

    async def scores(self, agents: Iterable[UUID]) -> Rows:
        found = await self._rows(_SCORES, agents, 2)
        return [(key, row) for key, row in found if any(row.values())]

    async def history(self, sources: Sequence[str]) -> list[tuple[tuple[str, str], Recorded]]:
        """By (source, id)."""
        rows = await self._connection.fetch(_HISTORY, list(sources))
        return [
            (
                (row["source"], row["event_id"]),
                Recorded(
                    row["type"],
                    row["time"],
                    row["entity_id"],
                    row["batch_id"],
                    orjson.loads(row["data"]),
                    row["recorded_at"],
                ),
            )
            for row in rows
        ]

    async def commit_times(self, sources: Sequence[str]) -> dict[tuple[str, str], float] | None:
        """When each event was committed, in seconds since 1970; None: the server does not track it."""
        if await self._connection.fetchval("SHOW track_commit_timestamp") != "on":
            return None
        rows = await self._connection.fetch(_COMMITS, list(sources))
        return {(row["source"], row["event_id"]): row["committed"] for row in rows if row["committed"]}

    async def _rows(self, query: str, ids: Iterable[UUID], key_columns: int) -> Rows:
        found = await self._connection.fetch(query, list(ids))
        rows: Rows = []
        for record in found:
            values = {name: _plain(name, value) for name, value in record.items()}
            names = list(values)[:key_columns]
            rows.append((tuple(values.pop(name) for name in names), values))
        return rows


def _plain(name: str, value: Any) -> Any:
    return orjson.loads(value) if name in _JSON and isinstance(value, str | bytes) else value


def decisions(rounds: Rows) -> dict[UUID, Decision]:
    """The decisions among stored rounds."""
    return {
        key[0]: Decision(
            row["decided_choice"],
            row["decided_at"],
            {choice: Decimal(str(weight)) for choice, weight in (row["decided_tally"] or {}).items()},
            row["decided_votes"] or 0,
        )
        for key, row in rounds
        if row["decided_choice"] is not None
    }
