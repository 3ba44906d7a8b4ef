"""What our own schema must hold: migrations, partitions ahead, retention, an empty outbox."""

from __future__ import annotations

from typing import Final

from schemas.errors import ConfigurationError
from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.postgres.probe import Postgres
from streams.doctor.words import duration
from streams.migrations import pending
from streams.settings import require

_GUIDE: Final = "Database: partitioning strategy"

_DEFAULTS: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relispartition AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
"""


def _absent(probe: Postgres) -> Finding | None:
    return None if probe.facts["ours"] else unknown("the tables are not there", "Run `streams migrate`.")


@check(
    "postgres.migrations",
    "migrations that this version brings and the database does not have",
    target="none pending",
    remedy="Run `streams migrate` before new workers start; they pause on a schema they do not know.",
)
async def migrations(patient: Patient) -> Finding:
    dsn = require(patient.settings.database_url, "DATABASE_URL")
    try:
        waiting = await pending(dsn, patient.settings.migration_sources)
    except ConfigurationError as error:
        return unknown(str(error)[:200])
    if not waiting:
        return ok("none pending")
    return critical(f"{len(waiting)}: {', '.join(waiting[:5])}")


@check(
    "postgres.partitions-ahead",
    "whole periods after the current one that every partitioned table has",
    target="≥ 2",
    remedy="Run `streams partitions apply`; a running worker does so once an hour: why did it not?",
    page="docs/runbook.md#partitionsrunningout",
    guide=_GUIDE,
)
async def ahead(patient: Patient) -> Finding:
    if absent := _absent(patient.postgres):
        return absent
    rows = await patient.postgres.fetch("SELECT table_name, ahead FROM partitions_ahead() ORDER BY ahead, 1")
    least = rows[0]
    measured = f"{least['ahead']} ({least['table_name']})"
    repair = "SELECT create_partitions();"
    if least["ahead"] < 0:
        return critical(f"the current one is missing: {least['table_name']}", "", repair)
    return unless(least["ahead"] >= 2, measured, "", repair)


@check(
    "postgres.default-partitions",
    "rows in a DEFAULT partition: they belong elsewhere, and keep that partition from being made",
    target="none",
    remedy="Make no DEFAULT partitions here. Move its rows within one transaction that detaches it, "
    "then drop it.",
    guide=_GUIDE,
)
async def defaults(patient: Patient) -> Finding:
    holding = [
        row["name"]
        for row in await patient.postgres.fetch(_DEFAULTS)
        if await patient.postgres.value(f"SELECT EXISTS (SELECT FROM {row['name']})")  # noqa: S608
    ]
    return unless(not holding, ", ".join(holding) or "none")


@check(
    "postgres.retention",
    "partitions that are past retention and still there",
    target="none",
    remedy="Run `streams partitions apply` as the owner of the tables.",
    guide=_GUIDE,
)
async def retention(patient: Patient) -> Finding:
    if absent := _absent(patient.postgres):
        return absent
    rows = await patient.postgres.fetch(
        "SELECT partition_name FROM partition_plan() WHERE state NOT IN ('present', 'missing') ORDER BY 1"
    )
    names = [row["partition_name"] for row in rows]
    return unless(not names, ", ".join(names[:5]) or "none")


@check(
    "postgres.outbox",
    "the oldest outbox row: what was committed and is not published yet",
    target="< 1 min",
    remedy="Is a worker running, and can it publish (RabbitMQ's alarms, permissions)? Any worker sweeps.",
    page="docs/runbook.md#outboxnotdrained",
)
async def outbox(patient: Patient) -> Finding:
    if absent := _absent(patient.postgres):
        return absent
    if not await patient.postgres.value("SELECT has_table_privilege('outbox', 'SELECT')"):
        return unknown("this login may not read the outbox", "Ask as streams_worker.")
    row = (
        await patient.postgres.fetch(
            "SELECT count(*) AS rows, extract(epoch FROM now() - min(created_at))::float8 AS age FROM outbox"
        )
    )[0]
    if not row["rows"]:
        return ok("empty")
    measured = f"{row['rows']} rows, the oldest {duration(row['age'])}"
    if row["age"] > 600:
        return critical(measured)
    return ok(measured) if row["age"] < 60 else warning(measured)
