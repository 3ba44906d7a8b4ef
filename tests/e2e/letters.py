"""What the tests of dead letters share: the command as an operator runs it, and a broker at hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import aio_pika
import asyncpg
import pytest
import structlog
from typer.testing import CliRunner

from streams.amqp import tolerate_any_property
from streams.cli.commands import app
from streams.decode import STRUCTURED
from streams.registry import load_subscriptions
from streams.topology import Topology
from tests.conftest import Servers
from tests.e2e import troubled
from tests.e2e.test_engine import NOTES
from tests.support import depth, eventually

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def forget_troubles() -> Iterator[None]:
    troubled.attempts.clear()
    troubled.broken = troubled.fixed = False
    with structlog.testing.capture_logs():  # the worker's lines must not land in a command's output
        yield


@pytest.fixture
def dlq(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `streams dlq ...`; its exit status and its output."""
    monkeypatch.setenv("AMQP_URL", servers.amqp)
    monkeypatch.setenv("COLUMNS", "80")

    async def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["dlq", *arguments], input=answer)
        return result.exit_code, result.output or str(result.exception)

    return run


async def is_(value: Any, expected: int) -> bool:
    return bool(await value == expected)


async def stored_events(database: asyncpg.Pool) -> dict[str, int]:
    """How often each event is in the history."""
    rows = await database.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY 1")
    return {row["event_id"]: row["n"] for row in rows}


async def are_refused(servers: Servers, count: int) -> None:
    await eventually(lambda: is_(depth(servers.amqp, "quarantine"), count), f"{count} are quarantined")


class declared:  # noqa: N801 - reads as the function that it is
    """A channel on which the topology is declared."""

    def __init__(self, servers: Servers) -> None:
        self._url = servers.amqp

    async def __aenter__(self) -> Any:
        tolerate_any_property()
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        await Topology.of(load_subscriptions(tuple(NOTES.split(",")))).declare(channel)
        return channel

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def send(exchange: Any, body: Any, **properties: Any) -> None:
    message = aio_pika.Message(
        json.dumps(body).encode(), content_type=STRUCTURED, delivery_mode=2, **properties
    )
    await exchange.publish(message, "some.key")


async def get(queue: Any) -> Any:
    message: Any = None

    async def came() -> bool:
        nonlocal message
        message = await queue.get(fail=False)
        return message is not None

    await eventually(came, "a message")
    return message


async def tap_on(servers: Servers, exchange: str) -> str:
    """A queue that gets a copy of all that is published from now on."""
    connection = await aio_pika.connect(servers.amqp)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("tap", durable=True)
        await queue.bind(exchange, "#")
    return "tap"


async def count_of(database: asyncpg.Pool) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM event_history")
    return count


async def at_least(database: asyncpg.Pool, count: int) -> bool:
    return await count_of(database) >= count
