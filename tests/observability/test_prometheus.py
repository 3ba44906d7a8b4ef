"""A real Prometheus scrapes real processes: it understands what they say, and every query finds what it asks for."""

from __future__ import annotations

import asyncio
import subprocess
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
    "streams_db_errors_total",
    "streams_retries_total",
    "streams_spans_dropped_total",
    "streams_outbox_swept_total",
}


class Prometheus:
    """Asks a server that runs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

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
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                server = Prometheus(client)
                await eventually(server.is_up, "Prometheus is up")
                yield server
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


async def test_every_query_finds_what_it_asks_for(
    servers: Servers, database: asyncpg.Pool, over_http: Receiver, tmp_path: Path
) -> None:
    ports = {job: free_port("127.0.0.1") for job in ("worker", "updater", "api")}
    settings = settings_for(servers, http_port=ports["api"], api_open=True)
    stop = asyncio.Event()
    api = asyncio.create_task(Api(settings).run(stop))
    async with (
        running(settings_for(servers)) as (worker, updater),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['api']}/v1") as reader,
    ):
        scraped = {**ports, "worker": worker.http_port, "updater": updater.http_port}
        async with prometheus(tmp_path, scraped) as server:

            async def seen(query: str) -> bool:
                return bool(await server.query(query))

            await eventually(lambda: seen('count(up{job=~"worker|updater|api"} == 1) == 3'), "targets are up")
            tasks = [uuid7() for _ in range(50)]
            events = [event("task.created", {"task_id": str(task), "kind": "x"}) for task in tasks]
            traced = [{**e, "traceparent": f"00-{uuid4().hex}-{'1' * 16}-01"} for e in events]
            await publish(servers.amqp, "tasks", [*traced, event("task.created", {"task_id": "none"})])
            await eventually(
                lambda: seen("sum(streams_event_age_at_cache_seconds_count) > 0"), "caches are told"
            )
            for _ in range(2):
                for task in tasks[:5]:
                    assert (await reader.get(f"/tasks/{task}")).status_code == 200
            # Counters count from their second sample on: something must happen between two scrapes.
            await publish(
                servers.amqp, "tasks", [event("task.completed", {"task_id": str(t)}) for t in tasks]
            )
            await eventually(
                lambda: seen('sum(increase(streams_events_total{outcome="stored"}[1m])) >= 50'),
                "rates are there",
            )
            await eventually(
                lambda: seen('sum(rate(streams_cache_requests_total{result="hit"}[1m])) > 0'),
                "hits are there",
            )
            empty = [
                where for where, query, _ in panels() if ours(query) and not await server.query(filled(query))
            ]
            assert empty == []
            rules = [r for group in (await server.get("rules"))["groups"] for r in group["rules"]]
            assert {rule["health"] for rule in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]
            examples = await server.get(
                "query_exemplars?query=streams_stage_seconds_bucket&start=0&end=9999999999"
            )
            ids = {e["labels"]["trace_id"] for series in examples for e in series["exemplars"]}
    stop.set()
    await api
    batches = {s.trace_id.hex() for s in over_http.spans if s.name.startswith("process batch")}
    assert ids
    assert ids <= batches, "an exemplar leads to the trace of a batch"


def ours(query: str) -> bool:
    """Whether processes of ours alone can answer it, and something happened that it counts."""
    metrics = parse(query).metrics
    return all(name.startswith(("streams_", "slo:", "process_")) for name in metrics) and not (
        metrics.keys() & QUIET or "streams_db_slow_queries_total" in metrics
    )
