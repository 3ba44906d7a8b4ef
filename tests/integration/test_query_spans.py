"""What asyncpg tells its query loggers, and what becomes of it."""

from __future__ import annotations

import time

import asyncpg
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams.database import Watched
from streams.telemetry import Telemetry


async def test_statements_of_a_transaction_become_spans(database_url: str) -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry.exporting_to(exporter)
    message = telemetry.tracing.message("q", received_ns=time.time_ns())
    trace = telemetry.tracing.batch("tasks", "q", [message])
    connection = await asyncpg.connect(database_url, connection_class=Watched)
    try:
        await connection.execute("CREATE TEMPORARY TABLE things (id int PRIMARY KEY)")
        await connection.fetch("SELECT $1::int[]", [1])  # a new connection asks about types first
        with connection.query_logger(trace.on_query):
            async with connection.transaction():
                await connection.fetch(
                    "INSERT INTO things SELECT * FROM unnest($1::int[]) RETURNING id", [1, 2]
                )
                await connection.executemany("UPDATE things SET id = $1 WHERE id = $2", [(3, 1), (4, 2)])
                await connection.copy_records_to_table("things", records=[(5,)])
                with pytest.raises(asyncpg.UniqueViolationError):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO things VALUES ($1)", 3)
    finally:
        await connection.close()
    trace.end(trigger="size", size=1)
    assert telemetry.shutdown(10)

    spans = exporter.get_finished_spans()
    queries = [span for span in spans if (span.attributes or {}).get("db.system.name") == "postgresql"]
    assert [span.name for span in sorted(queries, key=lambda span: span.end_time or 0)] == [
        "BEGIN",
        "INSERT things",
        "UPDATE things",
        "COPY things",
        "SAVEPOINT",
        "INSERT things",
        "ROLLBACK",
        "COMMIT",
    ]
    [failed] = [span for span in queries if "error.type" in (span.attributes or {})]
    assert (failed.attributes or {})["db.response.status_code"] == "23505"
    batch = next(span for span in spans if span.name == "process batch tasks")
    for span in queries:
        assert (
            (batch.start_time or 0) <= (span.start_time or 0) <= (span.end_time or 0) <= (batch.end_time or 0)
        )
