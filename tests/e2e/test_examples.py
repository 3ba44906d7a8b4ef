"""The examples for producers run as they stand, and the service makes of their events what they say."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg

from tests.conftest import Servers
from tests.support import EXAMPLES, eventually, running, settings_for

PRODUCERS = EXAMPLES / "producers"
ROOT = EXAMPLES.parent.parent


async def output_of(servers: Servers, *command: str | Path, **environment: str) -> list[str]:
    """The lines that a program prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, "AMQP_URL": servers.amqp, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


def readme_client() -> str:
    """The README's first event, by the client."""
    found = re.search(r"```python\n(import asyncio, os.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found[1]


@asynccontextmanager
async def consumer(servers: Servers) -> AsyncIterator[list[str]]:
    """The FastStream service that acts on decided rounds; the lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "faststream", "run", "round_decided_consumer:app",
        cwd=PRODUCERS, env={**os.environ, "AMQP_URL": servers.amqp},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            lines.append(line.decode().strip())

    reader = asyncio.create_task(read())
    try:
        await eventually(lambda: any("waiting for messages" in line for line in lines), "it waits", 60)
        yield lines
    finally:
        process.terminate()
        await process.wait()
        await reader


async def test_every_example_does_what_it_says(servers: Servers, database: asyncpg.Pool) -> None:
    node = (await output_of(servers, ROOT / "scripts" / "node.sh", PRODUCERS / "node_amqplib"))[0]
    async with running(settings_for(servers)), consumer(servers) as decisions:
        first, pika, aio_pika, faststream, client, amqplib = await asyncio.gather(
            output_of(servers, sys.executable, "-c", readme_client()),
            output_of(servers, sys.executable, PRODUCERS / "plain_pika.py"),
            output_of(servers, sys.executable, PRODUCERS / "with_aio_pika.py"),
            output_of(servers, sys.executable, PRODUCERS / "with_faststream.py"),
            output_of(servers, sys.executable, PRODUCERS / "with_client.py"),
            output_of(
                servers, "node", PRODUCERS / "node_amqplib" / "publish.js", NODE_PATH=f"{node}/node_modules"
            ),
        )
        assert client[0] == "not sent: data.progress: Input should be less than or equal to 1"

        expected = {
            UUID(first[-1]): ("research", "pending", None),
            UUID(pika[-1]): ("research", "pending", None),
            UUID(client[-1]): ("research", "completed", 0.9),
            UUID(amqplib[-1]): ("research", "pending", None),
        }
        found: dict[UUID, tuple[str, str, float | None]] = {}

        async def stored() -> bool:
            rows = await database.fetch("SELECT id, kind, status, progress FROM tasks")
            found.update({row["id"]: (row["kind"], row["status"], row["progress"]) for row in rows})
            parts = {kind for kind, _, _ in found.values()} - {"research"}
            return expected.items() <= found.items() and parts == {"habitat", "diet", "calls"}

        await eventually(stored, "the tasks are stored", 30)
        assert await database.fetchval("SELECT count(*) FROM agents WHERE id = $1", UUID(faststream[-1])) == 1
        decided = f"{aio_pika[-1]} decided for owls with 3 votes"
        await eventually(lambda: decided in decisions, "the consumer hears of the decision", 30)
