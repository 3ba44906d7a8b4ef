"""`streams top` on real processes: at work, gone, and back again."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

import httpx

from schemas.contract import Store
from streams.app import Service
from streams.producer import uuid7
from streams.scrape.target import Target
from streams.top.history import History
from streams.top.view import View
from streams.top.watching import Watching
from tests.conftest import Servers
from tests.examined import whole_service
from tests.support import event, eventually, publish, settings_for


async def test_processes_at_work_gone_and_back_again(servers: Servers) -> None:
    tasks = [event("task.created", {"task_id": str(uuid7()), "kind": "x"}) for _ in range(60)]
    async with whole_service(servers) as where:
        watching = Watching(where, management=servers.management, vhost=urlsplit(servers.amqp).path[1:])
        history = History()
        stored = 0.0

        async def look() -> View:
            view = await watching.look()
            history.add(view)
            return view

        assert (await look()).up == 3
        await publish(servers.amqp, "tasks", tasks)

        async def all_seen() -> bool:
            nonlocal stored
            view = await look()
            stored += (view.stored or 0.0) * (view.seconds or 0.0)
            return stored > len(tasks) - 0.5

        await eventually(all_seen, "the rates add up to what was stored")
        async with httpx.AsyncClient(base_url=where[2].url) as api:
            (await api.get("/v1/tasks")).raise_for_status()
        view = await look()
        assert view.requests
        assert view.backlog is not None
        assert {queue.name for queue in view.queues} >= {"tasks.record_tasks", "votes.record_votes"}
        assert all(process.well for process in view.processes)
        assert "█" in history.line("stored", 10)
        printed = await _printed(where)
        assert printed["stored"] == 0
        assert [process["state"] for process in printed["processes"]] == ["ready"] * 3

    view = await look()
    assert view.up == 0
    assert all(process.state.startswith("down: ") for process in view.processes)
    again = asyncio.create_task(_worker_again(servers, where[0]))
    try:
        await eventually(lambda: _is_back(watching), "the worker is back")
        view = await watching.look()
        assert view.stored == 0.0
    finally:
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        await watching.close()


async def _is_back(watching: Watching) -> bool:
    view = await watching.look()
    worker = next(process for process in view.processes if process.role == "worker")
    assert view.stored is None or view.stored >= 0
    return worker.well


async def _worker_again(servers: Servers, target: Target) -> None:
    settings = settings_for(servers, http_port=urlsplit(target.url).port)
    stop = asyncio.Event()
    try:
        await Service(settings, Store.POSTGRES).run(stop)
    finally:
        stop.set()


async def _printed(where: list[Target]) -> dict[str, Any]:
    options = [word for target in where for word in (f"--{target.role}", target.url)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "top", "--json", "--interval", "0.2", *options,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out = (await process.communicate())[0]
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found
