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
import pytest
from pydantic import SecretStr

from schemas.errors import ConfigurationError
from streams.api import Api
from streams.health import free_port
from streams.scrape import local, parse
from streams.settings import Settings
from streams.sharing import share
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
    async def is_up() -> bool:
        try:
            return (await client.get("/readyz")).is_success
        except httpx.HTTPError:
            return False

    await eventually(is_up, "it answers")


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

    def listening() -> list[int]:
        return [
            connection.laddr.port
            for child in psutil.Process(process.pid).children()
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]

    try:
        await eventually(lambda: len(listening()) == 4, "both workers listen, on two ports each", 40)
        assert listening().count(port) == 2
        own = [f"http://127.0.0.1:{other}" for other in listening() if other != port]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await until_up(client)
            assert (await client.get("/metrics")).status_code == 404
        await _asked(f"http://127.0.0.1:{port}/v1/tasks", 20)
        assert await _counted(own) == 20
        found = [url for url in local.processes()["api"] if url in own or url.endswith(f":{port}")]
        assert sorted(found) == sorted(own)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert not await connects("127.0.0.1", port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _asked(url: str, times: int) -> None:
    """Over a new connection each time: the kernel gives it to one of the processes."""
    for _ in range(times):
        async with httpx.AsyncClient() as client:
            (await client.get(url)).raise_for_status()


async def _counted(processes: list[str]) -> float:
    """Requests for tasks that all of these processes have answered."""
    async with httpx.AsyncClient() as client:
        samples = [parse((await client.get(f"{url}/metrics")).text, 0) for url in processes]
    return sum(
        sample.total("streams_http_request_duration_seconds_count", route="/v1/tasks") or 0
        for sample in samples
    )


@pytest.mark.parametrize(
    "settings", [{"api_metrics_port": 65_534}, {"api_metrics_port": 8000, "http_port": 8002}]
)
async def test_ports_of_their_own_must_be_ports_and_not_the_shared_one(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="STREAMS_API_METRICS_PORT"):
        await share(Settings.load(api_workers=3, **settings))


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
