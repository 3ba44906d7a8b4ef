"""`streams top` on real processes: at work, killed, and back again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from streams.health import free_port
from streams.producer import uuid7
from streams.scrape.target import Target
from streams.top.history import History
from streams.top.view import View
from streams.top.watching import Watching
from tests.conftest import Servers
from tests.support import event, eventually, publish


async def test_processes_at_work_killed_and_back_again(servers: Servers) -> None:
    tasks = [event("task.created", {"task_id": str(uuid7()), "kind": "x"}) for _ in range(60)]
    # Nobody ever listens where the updater should.
    where = [
        Target(role, f"http://127.0.0.1:{free_port('127.0.0.1')}") for role in ("worker", "updater", "api")
    ]
    worker, _, api = where
    watching = Watching(where, management=servers.management, vhost=urlsplit(servers.amqp).path[1:])
    history = History()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(watching.close)

        async def look() -> View:
            view = await watching.look()
            history.add(view)
            return view

        async def up(count: int) -> bool:
            view = await look()
            assert view.stored is None or view.stored >= 0
            return view.up == count

        async with _process(servers, worker), _process(servers, api):
            await eventually(lambda: up(2), "worker and API are there", 60)
            stored = 0.0
            await publish(servers.amqp, "tasks", tasks)

            async def all_seen() -> bool:
                nonlocal stored
                view = await look()
                stored += (view.stored or 0.0) * (view.seconds or 0.0)
                return stored > len(tasks) - 0.5

            await eventually(all_seen, "the rates add up to what was stored")
            async with httpx.AsyncClient(base_url=api.url) as http:
                (await http.get("/v1/tasks")).raise_for_status()
            view = await look()
            assert view.requests
            assert view.backlog is not None
            assert "tasks.record_tasks" in {queue.name for queue in view.queues}
            assert "█" in history.line("stored", 10)
            printed = await _printed(servers, where)
            assert printed["stored"] == 0
            states = {process["role"]: process["state"] for process in printed["processes"]}
            assert states == {"worker": "ready", "updater": "down: nobody listens", "api": "ready"}
        await eventually(lambda: up(0), "what is gone shows as gone")
        async with _process(servers, worker):

            async def back() -> bool:
                view = await look()
                assert view.stored in (None, 0)  # and not what it had stored before
                return view.stored == 0 and view.processes[0].well

            await eventually(back, "the worker is back", 60)


@asynccontextmanager
async def _process(servers: Servers, target: Target) -> AsyncIterator[None]:
    """One of our processes; killed in the end."""
    environment = {**os.environ, **servers.environment, "STREAMS_API_OPEN": "1"}
    environment["STREAMS_HTTP_PORT"] = str(urlsplit(target.url).port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", target.role, env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def _printed(servers: Servers, where: list[Target]) -> dict[str, Any]:
    options = [word for target in where for word in (f"--{target.role}", target.url)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "top", "--json", "--interval", "0.2", *options,
        env={**os.environ, **servers.environment}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out = (await process.communicate())[0]
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found
