"""The read API behind Granian: a graceful stop, several workers, proxies, connections that idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import asyncpg
import httpx
import psutil
from pydantic import SecretStr

from streams.api import Api
from streams.health import free_port
from streams.settings import Settings
from tests.support import eventually


async def test_served_by_granian_until_a_signal_and_no_answer_is_lost(
    database_url: str, database: asyncpg.Pool, redis_url: str
) -> None:
    settings = Settings.load(
        database_url=SecretStr(database_url), redis_url=SecretStr(redis_url), api_open=True, http_port=0
    )
    api = Api(settings)
    serving = asyncio.create_task(api.run())
    async with httpx.AsyncClient(base_url=f"http://{api.host}:{api.port}") as client:
        await until_up(client)
        assert (await client.get("/v1/agents")).json()["data"] == []
        async with database.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE tasks")
            slow = asyncio.create_task(client.get("/v1/tasks"))
            async with asyncio.timeout(10):
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                while not await connection.fetchval(waiting):
                    pass
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(10):
                while await connects(api.host, api.port):
                    pass
            assert not slow.done()
        assert (await slow).json()["data"] == []
    async with asyncio.timeout(10):
        await serving


async def until_up(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                (await client.get("/readyz")).raise_for_status()
            except httpx.HTTPError:
                await asyncio.sleep(0.02)
            else:
                return


async def connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def test_workers_share_the_port_and_stop_together(database_url: str, redis_url: str) -> None:
    port = free_port("127.0.0.1")
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STREAMS_API_OPEN": "1",
        "STREAMS_API_WORKERS": "2",
        "STREAMS_HTTP_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "api", env=environment, stdout=asyncio.subprocess.PIPE
    )

    def both_listen() -> bool:
        listening = [
            child
            for child in psutil.Process(process.pid).children()
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        return len(listening) == 2

    try:
        await eventually(both_listen, "both workers listen", 40)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await until_up(client)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert not await connects("127.0.0.1", port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_forwarded_addresses_are_believed_from_proxies_that_are_named(
    database_url: str, redis_url: str
) -> None:
    """Each address has a limit of its own: which one counts shows who is meant."""
    for proxies, expected in (((), [200, 429]), (("127.0.0.0/8",), [200, 200])):
        settings = Settings.load(
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            api_open=True,
            api_rate=0.01,
            trusted_proxies=proxies,
        )
        api, stop = Api(settings), asyncio.Event()
        serving = asyncio.create_task(api.run(stop))
        async with httpx.AsyncClient(base_url=f"http://{api.host}:{api.port}") as client:
            await until_up(client)
            answers = [
                (await client.get("/v1/agents", headers={"X-Forwarded-For": address})).status_code
                for address in ("192.0.2.1", "192.0.2.2")
            ]
        assert answers == expected, proxies
        stop.set()
        await serving
