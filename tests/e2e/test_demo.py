"""`streams demo`, as a person runs it: on servers that are given, with the report as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import Servers

pytestmark = pytest.mark.timeout(180)


async def start(servers: Servers, *arguments: str) -> Process:
    environment = {**os.environ, **servers.environment}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", *arguments, env=environment, stdout=PIPE, stderr=PIPE
    )


async def report_of(process: Process) -> dict[str, Any]:
    out, err = await process.communicate()
    assert process.returncode in (0, 1), err.decode()
    assert out, err.decode()
    report: dict[str, Any] = json.loads(out)
    return report


async def test_a_short_demo_agrees_and_a_tampered_row_is_found_afterwards(servers: Servers) -> None:
    demo = await start(servers, "demo", "--events", "1500", "--rate", "400", "--reads", "50", "--json")
    report = await report_of(demo)

    assert report["ok"], (report["problems"], report["verification"]["first_differences"])
    assert demo.returncode == 0
    assert report["stored"] >= 1500
    assert report["repeats"] > 0
    assert sum(report["refused"].values()) == 20
    assert report["publish_to_committed_ms"]["samples"] == report["stored"]
    assert report["publish_to_fresh_ms"]["samples"] > 0
    assert report["verification"]["not_checked"] == []
    assert report["reads"]["failures"] == 0
    assert report["consistency"]["after"]["1"]["consistent"] > 0

    again = await start(servers, "verify", "--ledger", report["ledger"], "--json")
    assert (await report_of(again))["agrees"]

    connection = await asyncpg.connect(servers.database)
    await connection.execute("UPDATE tasks SET priority = (priority + 1) % 10")
    await connection.close()
    tampered = await start(servers, "verify", "--ledger", report["ledger"], "--json")
    found = await report_of(tampered)
    assert tampered.returncode == 1
    assert found["differences"] == found["compared"]["tasks"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_nothing_is_left_running(servers: Servers, number: signal.Signals) -> None:
    demo = await start(servers, "demo", "--events", "50000", "--rate", "200")
    assert demo.stdout is not None
    async with asyncio.timeout(90):
        while b"publish" not in await demo.stdout.readline():
            pass
    children = _children(demo.pid)
    assert len(children) == 3
    ends = [_end_of(child) for child in children]
    demo.send_signal(number)
    async with asyncio.timeout(60):
        await demo.communicate()
        await asyncio.gather(*ends)


async def test_a_set_up_error_is_one_sentence(servers: Servers) -> None:
    unreachable = Servers(servers.amqp, "postgresql://nobody@127.0.0.1:1/none", servers.redis, "")
    demo = await start(unreachable, "demo", "--events", "100")
    _, err = await demo.communicate()
    assert demo.returncode == 2
    assert len(err.decode().strip().splitlines()) == 1


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in tasks.read_text().split()]


def _end_of(pid: int) -> asyncio.Future[None]:
    """Done when this process, whosever child it is, has ended."""
    loop = asyncio.get_running_loop()
    handle, ended = os.pidfd_open(pid), loop.create_future()

    def note() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        ended.set_result(None)

    loop.add_reader(handle, note)
    return ended
