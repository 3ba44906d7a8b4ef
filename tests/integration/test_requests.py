"""What requests and pools leave behind: traces with statements, exemplars, gauges, traces in log lines."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from handlers.api import Limits, create_app
from schemas.contract import Store
from streams.database import Database
from streams.settings import Settings
from streams.telemetry import Telemetry, configure_logging
from streams.telemetry.requests import traced
from tests.api_support import NoCache, NoLimiter, add_task
from tests.conftest import Servers
from tests.support import event, eventually, publish, running, settings_for

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


async def test_a_request_and_its_statements_are_one_trace(database_url: str, database: asyncpg.Pool) -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry.exporting_to(exporter, "api")
    own = Database(Settings.load(database_url=database_url), "api", metrics=telemetry.metrics)
    await own.connect()
    task = await add_task(database)
    app: Any = create_app(
        pool=own.pool,
        cache=NoCache(),
        metrics=telemetry.metrics,
        limiter=NoLimiter(),
        is_open=True,
        limits=Limits(),
    )
    output = io.StringIO()
    configure_logging(stream=output)

    async def logging(scope: Any, receive: Any, send: Any) -> None:
        structlog.get_logger("streams.test").warning("asked")
        await app(scope, receive, send)

    transport = httpx.ASGITransport(app=traced(logging, telemetry.tracing), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get(f"/v1/tasks/{task}", headers=CALLER)).status_code == 200
        await own.pool.close()
        assert (await client.get(f"/v1/tasks/{uuid4()}")).status_code in (404, 503)
        metrics = (await client.get("/metrics", headers=OPENMETRICS)).text
    await asyncio.to_thread(telemetry.shutdown, 10)

    spans = exporter.get_finished_spans()
    requests = [span for span in spans if span.name == "GET /v1/tasks/{task_id}"]
    assert len(requests) == 2, "probes and scrapes leave none"
    first = next(span for span in requests if f"{span.context.trace_id:032x}" == TRACE)
    assert f"{first.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/tasks/{task_id}",
        "url.path": f"/v1/tasks/{task}",
        "url.scheme": "http",
    }
    below = {s.name for s in spans if s.parent and s.parent.span_id == first.context.span_id}
    assert "SELECT tasks" in below
    assert f'# {{trace_id="{TRACE}"}}' in metrics
    lines = [orjson.loads(line) for line in output.getvalue().splitlines()]
    assert next(line["trace_id"] for line in lines if line["message"] == "asked") == TRACE
    assert "trace_id" not in structlog.contextvars.get_contextvars()


async def test_a_pool_tells_of_itself(database_url: str, database: asyncpg.Pool) -> None:
    telemetry = Telemetry.disabled()
    own = Database(Settings.load(database_url=database_url), "test", metrics=telemetry.metrics)
    await own.connect()
    values: dict[str, float] = {}

    def look() -> dict[str, float]:
        for family in telemetry.metrics.registry.collect():
            if family.name.startswith("streams_db_pool"):
                values[family.name.removeprefix("streams_db_pool_")] = family.samples[0].value
        return values

    held = [await own.pool.acquire() for _ in range(5)]
    waiting = [asyncio.create_task(own.pool.fetchval("SELECT 1")) for _ in range(3)]
    await eventually(lambda: look() == {"size": 5, "idle": 0, "max": 5, "waiting": 3}, "three wait")
    for connection in held:
        await own.pool.release(connection)
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    async with own.transaction() as tx:
        await tx.copy_records_to_table("agent_registry", records=[(uuid4(),)], columns=["agent_id"])
    with pytest.raises(asyncpg.UndefinedTableError):
        await own.pool.execute("DELETE FROM nowhere")
    await asyncio.sleep(0)
    body = telemetry.metrics.render()[0].decode()
    await own.close()
    assert look()["waiting"] == 0
    for line in (
        'streams_db_query_duration_seconds_count{statement="SELECT"} 3.0',
        'streams_db_query_duration_seconds_count{statement="COPY agent_registry"} 1.0',
        'streams_db_errors_total{code="42P01"} 1.0',
    ):
        assert line in body


async def test_a_workers_log_lines_name_the_trace(
    servers: Servers, database: asyncpg.Pool, over_http: Any
) -> None:
    output = io.StringIO()
    configure_logging(stream=output)
    bad = event("task.created", {"task_id": "none"})
    async with running(settings_for(servers), Store.POSTGRES):
        await publish(servers.amqp, "tasks", [bad], headers=CALLER)
        await eventually(lambda: "quarantined" in output.getvalue())
    [line] = [orjson.loads(t) for t in output.getvalue().splitlines() if '"quarantined"' in t]
    assert line["trace_id"] == TRACE
