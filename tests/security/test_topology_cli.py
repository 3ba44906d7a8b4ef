"""`streams topology apply|check`, for brokers in which processes may not declare."""

from __future__ import annotations

import asyncio
import json

import aio_pika
from typer.testing import CliRunner

from streams.cli import commands


async def run(url: str, *arguments: str) -> tuple[int, str]:
    runner = CliRunner()
    result = await asyncio.to_thread(
        runner.invoke, commands.app, ["topology", *arguments], env={"AMQP_URL": url}
    )
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


async def test_what_is_missing_is_named_then_made(amqp_url: str) -> None:
    assert await run(amqp_url, "check") == (
        1,
        "exchange agents is missing: run `streams topology apply`\n",
    )
    status, output = await run(amqp_url, "apply", "--json")
    assert status == 0
    made = json.loads(output)
    assert {"tasks", "votes", "dead-letters"} <= set(made["exchanges"])
    assert {"tasks.record_tasks", "quarantine"} <= set(made["queues"])
    assert (await run(amqp_url, "check"))[0] == 0
    assert (await run(amqp_url, "apply"))[0] == 0
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).queue_delete("votes.record_votes")
    assert await run(amqp_url, "check") == (
        1,
        "queue votes.record_votes is missing: run `streams topology apply`\n",
    )
