"""`streams run` as its user runs it, and the README's first event."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import asyncpg
import httpx
import psutil

from tests.conftest import Servers
from tests.support import eventually

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


class Run:
    """A `streams run` in the background."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode())

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def url(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found, self.output
        return found[1]


@asynccontextmanager
async def streams_run(servers: Servers) -> AsyncIterator[Run]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams",
        "run",
        env={**os.environ, **servers.environment, "STREAMS_API_OPEN": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    run = Run(process)
    reader = asyncio.create_task(run.read())
    try:
        await eventually(lambda: run.output.count(" ready ") >= 3, "three roles are ready", 60)
        yield run
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(reader, 30)


async def test_the_first_event_of_the_readme_is_stored_and_served(servers: Servers) -> None:
    found = re.search(r"```python\n(import json, os.*?)```", README, re.DOTALL)
    assert found

    async def publish() -> str:
        producer = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            found[1],
            env={**os.environ, **servers.environment},
            stdout=asyncio.subprocess.PIPE,
        )
        task_id = (await producer.communicate())[0].decode().strip()
        assert producer.returncode == 0
        return task_id

    async with streams_run(servers) as run, httpx.AsyncClient(timeout=10) as client:
        api = run.url(r"read API +(http://[^/]+)/")

        async def read_ahead() -> int:
            text = (await client.get(f"{api}/metrics")).text
            done = re.search(r'streams_cache_read_ahead_total{result="done"} (\d+)', text)
            return int(done[1]) if done else 0

        async def hears() -> bool:
            return "streams_cache_bus_up 1.0" in (await client.get(f"{api}/metrics")).text

        await eventually(hears, "the read API hears invalidations")
        read_already = await read_ahead()
        task_id = await publish()

        async def is_read_ahead() -> bool:
            return await read_ahead() > read_already

        await eventually(is_read_ahead, "the read API has the task before anybody asks for it")
        answer = await client.get(f"{api}/v1/tasks/{task_id}")
        assert answer.headers["x-cache"] == "hit"
        task = answer.json()
        assert (task["status"], task["kind"]) == ("pending", "research")
        health = await client.get(run.url(r"worker +(http://\S+/readyz)"))
        assert health.json() == {"status": "ready", "troubles": {}}

        children = psutil.Process(run.process.pid).children(recursive=True)
        run.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(run.process.wait(), 30) == 0
        assert [child for child in children if child.is_running()] == []


async def test_kill_nine_of_run_leaves_no_child(servers: Servers, database: asyncpg.Pool) -> None:
    async with streams_run(servers) as run:
        children = psutil.Process(run.process.pid).children(recursive=True)
        assert len(children) >= 3
        run.process.kill()
        await run.process.wait()
        await eventually(lambda: not any(child.is_running() for child in children), "all children ended", 30)


async def test_a_role_that_fails_is_not_taken_apart_either(servers: Servers) -> None:
    """Threads of its HTTP server may still run, and would abort the process: it leaves before that."""
    async with await aio_pika.connect(servers.amqp) as connection:
        channel = await connection.channel()
        await channel.declare_queue("tasks.record_tasks", durable=True)  # of another type than ours
    main = "import atexit; atexit.register(print, 'taken apart'); from streams.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        main,
        "worker",
        env={**os.environ, **servers.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 2, output
    assert "streams: " in output, "what it was refused for is told"
    assert "taken apart" not in output
