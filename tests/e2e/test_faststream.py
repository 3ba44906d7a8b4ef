"""FastStream's command line runs and documents our applications."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from tests.conftest import Servers
from tests.support import depth, event, eventually, publish

ROOT = Path(__file__).parent.parent.parent
HANDLERS = "tests.e2e.troubled,handlers.invalidations"


async def faststream(*arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "faststream",
        *arguments,
        env=os.environ | (env or {}),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def notes(count: int) -> list[dict[str, Any]]:
    return [event("note.taken", {"note_id": str(uuid4())}) for _ in range(count)]


async def test_run_consumes_and_drains_on_sigterm(servers: Servers, database: asyncpg.Pool) -> None:
    own = {"STREAMS_HANDLERS": HANDLERS, "STREAMS_LOG_JSON": "1", "STREAMS_BATCH_SIZE": "50"}
    process = await faststream("run", "streams.faststream_app:app", env={**servers.environment, **own})
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    try:
        while sum(line.get("message") == "ready" for line in lines) < 2:
            lines.append(orjson.loads(await asyncio.wait_for(process.stdout.readline(), 60)))
        await publish(servers.amqp, "notes", notes(200))
        await eventually(lambda: _stored(database, 200), "events are stored")
        await publish(servers.amqp, "notes", notes(2000))
        process.send_signal(signal.SIGTERM)
        rest = await asyncio.wait_for(process.stdout.read(), 60)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    lines += [orjson.loads(line) for line in rest.splitlines()]
    drained = {line["role"]: line["returned"] for line in lines if line.get("message") == "drained"}
    assert drained == {"worker": 0, "updater": 0}
    stored = await database.fetchval("SELECT count(*) FROM event_history")
    assert stored + await depth(servers.amqp, "troubled.record_notes") == 2200


async def test_docs_gen_writes_our_document(tmp_path: Path) -> None:
    target = tmp_path / "asyncapi.yaml"
    process = await faststream("docs", "gen", "--yaml", "--out", str(target), "streams.faststream_app:app")
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert target.read_text() == (ROOT / "asyncapi.yaml").read_text()


async def test_settings_that_cannot_work_are_one_line() -> None:
    process = await faststream("run", "streams.faststream_app:worker", env={"STREAMS_HANDLERS": "nowhere"})
    output = (await process.communicate())[0].decode()
    assert process.returncode == 1
    assert output == "streams: STREAMS_HANDLERS names 'nowhere': No module named 'nowhere'\n"


async def _stored(database: asyncpg.Pool, count: int) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM event_history") >= count)
