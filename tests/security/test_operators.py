"""Operators' work under the logins that docs/security.md gives them."""

from __future__ import annotations

import json
from datetime import date

import httpx

from handlers.recount import recompute
from streams import partitions
from streams.database import connect
from tests.security.secured import Secured
from tests.security.service import Evidence


def test_dead_letters_are_listed_replayed_and_dropped(evidence: Evidence) -> None:
    """By the operator's user; the replayed event is as bad as before and comes back."""
    listed, replayed, again, dropped, empty = evidence.dlq
    assert json.loads(listed)["total"] == 1
    assert "invalid_event" in listed
    assert "1  replayed" in replayed
    assert json.loads(again)["letters"][0]["replays"] == 1
    assert "1  dropped" in dropped
    assert json.loads(empty)["total"] == 0
    assert "canary" not in listed + again


async def test_a_monitor_sees_queues_and_no_messages(secured: Secured) -> None:
    base = secured.stack.urls.management.rpartition("@")[2]
    async with httpx.AsyncClient(
        base_url=f"http://{base}", auth=("streams-monitor", secured.password), timeout=30
    ) as management:
        queues = (await management.get("/api/queues/%2F")).json()
        assert "tasks.record_tasks" in {queue["name"] for queue in queues}
        body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
        refused = await management.post("/api/queues/%2F/quarantine/get", json=body)
        assert refused.status_code in (400, 401, 403)


async def test_operators_commands_work_under_the_logins_in_the_documentation(
    secured: Secured,
) -> None:
    deployer = secured.settings(database_url=secured.database("streams_deployer")).database_url
    worker = secured.settings(database_url=secured.database("streams_worker")).database_url
    assert deployer is not None
    assert worker is not None
    connection = await connect(deployer.get_secret_value())
    assert (await partitions.apply(connection)).left == []
    await connection.close()
    connection = await connect(worker.get_secret_value())
    async with connection.transaction():
        await recompute(connection, date.min, repair=True)
    await connection.close()
