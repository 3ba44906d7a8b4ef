"""`streams scores` as an operator runs it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from typer.testing import CliRunner

from schemas.contract import Batch
from schemas.ids import uuid7
from schemas.tasks import AssignedData, CompletedData, TaskAssigned, TaskCompleted
from streams.cli.commands import app


async def test_differences_are_reported_and_repaired(
    database: asyncpg.Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handlers.tasks import record_tasks

    agent, task, now = uuid4(), uuid7(), datetime.now(UTC)
    events = [
        TaskAssigned(id="1", source="t", time=now, data=AssignedData(task_id=task, agent_id=agent)),
        TaskCompleted(
            id="2", source="t", time=now + timedelta(seconds=1), data=CompletedData(task_id=task, result={})
        ),
    ]
    async with database.acquire() as connection, connection.transaction():
        await record_tasks(Batch(uuid4(), events), connection)  # type: ignore[arg-type]
    monkeypatch.setenv("DATABASE_URL", database_url)

    assert await _streams("scores") == (0, "Scores and reputations agree with the stored rows.\n")
    await database.execute("UPDATE agent_scores SET points = 99")
    status, output = await _streams("scores", "--json")
    assert status == 1
    (difference,) = json.loads(output)["differences"]
    assert difference["agent_id"] == str(agent)
    assert (difference["stored"], difference["recounted"]) == ([1, 0, 0, 99], [1, 0, 0, 10])
    assert (await _streams("scores", "--repair"))[0] == 0
    assert (await _streams("scores"))[0] == 0


async def test_days_whose_rows_are_gone_are_not_recounted_by_accident(
    database: asyncpg.Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.execute(
        "INSERT INTO agent_scores (agent_id, day, points) VALUES (gen_random_uuid(), '2001-01-01', 10)"
    )
    monkeypatch.setenv("DATABASE_URL", database_url)
    status, output = await _streams("scores", "--repair")
    assert status != 0
    assert "--since" in output
    assert (await _streams("scores", "--repair", "--since", "2020-01-01"))[0] == 0
    assert await database.fetchval("SELECT points FROM agent_scores") == 10


async def _streams(*arguments: str) -> tuple[int, str]:
    """Run the command in a thread: it has an event loop of its own."""
    import asyncio

    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    return result.exit_code, result.output or str(result.exception)
