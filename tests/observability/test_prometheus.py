"""A real Prometheus scrapes real processes: it understands them, and every query finds what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import yaml

from schemas.ids import uuid7
from streams.api import Api
from streams.health import free_port
from streams.scrape.target import Target, targets
from streams.slo import from_processes, from_prometheus
from tests.conftest import Servers
from tests.observability.promql import parse
from tests.observability.test_dashboards import filled, panels
from tests.observability.test_rules import RULES
from tests.receivers import Receiver
from tests.support import event, eventually, publish, running, settings_for

# Nothing of the kind happens below.
QUIET = {
    "streams_cache_stale_drops_total",
    "streams_cache_evictions_total",
    "streams_cache_read_ahead_total",
    "streams_cache_refreshes_total",
    "streams_db_errors_total",
    "streams_db_slow_queries_total",
    "streams_retries_total",
    "streams_spans_dropped_total",
    "streams_outbox_swept_total",
}


class Prometheus:
    """Asks a server that runs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.url = str(client.base_url)

    async def query(self, query: str) -> list[dict[str, Any]]:
        answer = await self._client.get("/api/v1/query", params={"query": query})
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return list(answer.json()["data"]["result"])

    async def get(self, path: str) -> Any:
        return (await self._client.get(f"/api/v1/{path}")).json()["data"]

    async def is_up(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx.HTTPError:
            return False


@asynccontextmanager
async def prometheus(folder: Path, targets: dict[str, int]) -> AsyncIterator[Prometheus]:
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(file) for file in RULES],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port("127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            server = Prometheus(client)
            await eventually(server.is_up, "Prometheus is up")
            yield server
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def processes(servers: Servers) -> AsyncIterator[dict[str, int]]:
    """Worker, updater and read API; where each serves HTTP."""
    port, stop = free_port("127.0.0.1"), asyncio.Event()
    async with running(settings_for(servers)) as (worker, updater):
        api = asyncio.create_task(Api(settings_for(servers, http_port=port, api_open=True)).run(stop))
        try:
            yield {"worker": worker.http_port, "updater": updater.http_port, "api": port}
        finally:
            stop.set()
            await api


async def traffic(servers: Servers, api: int) -> None:
    """Events, one of them bad, and reads, until cancelled: counters count from their second sample on."""
    agent = str(uuid4())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api}/v1") as reader:
        while True:
            tasks = [uuid7() for _ in range(20)]
            events = [event("task.created", {"task_id": str(task), "kind": "x"}) for task in tasks]
            events.append(event("task.assigned", {"task_id": str(tasks[0]), "agent_id": agent}))
            events.append(event("task.completed", {"task_id": str(tasks[0])}, seconds=0.001))
            await publish(servers.amqp, "tasks", [*events, event("task.created", {"task_id": "none"})])
            for task in tasks:
                await reader.get(f"/tasks/{task}")
            for _ in range(2):
                await reader.get("/tasks")
            await asyncio.sleep(0.1)


async def test_every_query_finds_what_it_asks_for(
    servers: Servers, database: asyncpg.Pool, over_http: Receiver, tmp_path: Path
) -> None:
    asked = [(where, filled(query)) for where, query, _ in panels() if ours(query)]
    assert len(asked) > 40
    async with processes(servers) as ports, prometheus(tmp_path, ports) as server:
        load = asyncio.create_task(traffic(servers, ports["api"]))
        missing = list(asked)

        async def all_found() -> bool:
            missing[:] = [(where, query) for where, query in missing if not await server.query(query)]
            return not missing

        try:
            await eventually(all_found, seconds=60)
        finally:
            assert missing == []
        rules = [rule for group in (await server.get("rules"))["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]
        for measured in (
            await from_prometheus(server.url, "5m"),
            await from_processes(named(ports), None),
            await from_processes(named(ports), 1.0),
        ):
            assert measured.processes == 3
            assert {name for name, number in measured.numbers.items() if number is None} == set()
            assert measured.numbers["availability"] == 1
        assert await server.query('streams_board_builds_total{job="api"}')
        assert await server.query('streams_board_updates_total{job="updater"}')
        examples = await server.get(
            "query_exemplars?query=streams_stage_seconds_bucket&start=0&end=9999999999"
        )
        load.cancel()
    ids = {e["labels"]["trace_id"] for series in examples for e in series["exemplars"]}
    batches = {s.trace_id.hex() for s in over_http.spans if s.name.startswith("process batch")}
    assert ids
    assert ids <= batches, "an exemplar leads to the trace of a batch"


def named(ports: dict[str, int]) -> list[Target]:
    return targets({role: [f"http://127.0.0.1:{port}"] for role, port in ports.items()})


def ours(query: str) -> bool:
    """Whether processes of ours alone can answer it, and what it counts happens here."""
    metrics = parse(query).metrics
    return all(name.startswith(("streams_", "slo:", "process_")) for name in metrics) and not (
        metrics.keys() & QUIET
    )
