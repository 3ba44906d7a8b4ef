"""Statements: which are slow, which spill or lose, and whether anybody watches."""

from __future__ import annotations

from typing import Final

from streams.doctor.model import Finding, check, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.postgres.probe import Postgres
from streams.doctor.words import size
from streams.telemetry.sql import summarize

_GUIDE: Final = "Database: slow query log analysis"

_SLOW: Final = """
SELECT queryid, min(query) AS query, sum(calls)::bigint AS calls,
       sum(total_exec_time) / sum(calls) AS mean, max(max_exec_time) AS worst
FROM {view}
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND calls > 0
  AND query !~* '^\\s*(CREATE|ALTER|DROP|VACUUM|ANALYZE|REINDEX|CLUSTER|REFRESH|TRUNCATE)'
GROUP BY queryid
HAVING sum(total_exec_time) / sum(calls) > $1 AND sum(calls) >= $2
ORDER BY mean DESC LIMIT 20
"""

_FEWEST_CALLS: Final = 3  # a statement that ran once was slow for a cold cache, or for a person

_COUNTS: Final = """
SELECT xact_commit AS commits, xact_rollback AS rollbacks, deadlocks, temp_files, temp_bytes,
       blks_hit AS hit, blks_read AS read, conflicts
FROM pg_stat_database WHERE datname = current_database()
"""


@check(
    "postgres.statement-statistics",
    "the extension pg_stat_statements: loaded, and created in this database",
    target="on",
    remedy="Load the library (shared_preload_libraries, a restart), then create the extension.",
    guide="Checklist: slow query monitoring enabled",
)
async def statistics(patient: Patient) -> Finding:
    probe = patient.postgres
    if probe.has_statements:
        return ok("on")
    preload = probe.settings.get("shared_preload_libraries")
    create = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;"
    if "pg_stat_statements.max" in probe.settings:
        return warning("loaded, but not created in this database", create.rstrip(";"), create)
    if preload is None:
        return unknown("may not be seen by this login", probe.grant.rstrip(";"), probe.grant)
    libraries = [name for name in preload.raw.replace(" ", "").split(",") if name] + ["pg_stat_statements"]
    load = f"ALTER SYSTEM SET shared_preload_libraries = '{','.join(dict.fromkeys(libraries))}';"
    return warning("not loaded", "", f"{load} -- then restart", create)


def _blind(probe: Postgres) -> Finding | None:
    if not probe.has_statements:
        return unknown("pg_stat_statements is off", "See postgres.statement-statistics.")
    if not probe.sees_all:
        return unknown("statements of other roles are hidden", probe.grant.rstrip(";"), probe.grant)
    return None


@check(
    "postgres.slow-statements",
    "statements of this database by their mean time, from pg_stat_statements",
    target="mean < 100 ms",
    remedy="EXPLAIN (ANALYZE, BUFFERS) them: a sequential scan or a wrong estimate? Then an index, "
    "or ANALYZE.",
    page="docs/runbook.md#slowdatabasequeries",
    guide=_GUIDE,
)
async def slow(patient: Patient) -> Finding:
    probe = patient.postgres
    if blind := _blind(probe):
        return blind
    rows = await probe.fetch(
        _SLOW.format(view=probe.statements_view), patient.limits.slow_query_ms, _FEWEST_CALLS
    )
    if not rows:
        return ok("none slower")
    named = "; ".join(
        f"{summarize(row['query']).text[:40]}: {row['mean']:.0f} ms × {row['calls']} (queryid "
        f"{row['queryid']})"
        for row in rows[:3]
    )
    more = f"; {len(rows) - 3} more" if len(rows) > 3 else ""
    look = f"-- SELECT query FROM {probe.statements_view} WHERE queryid ="  # noqa: S608  # printed, never run
    return warning(named + more, "", *(f"{look} {row['queryid']};" for row in rows[:3]))


@check(
    "postgres.cache-hits",
    "pages found in shared_buffers, of all that were wanted",
    target="> 95 %",
    remedy="Raise shared_buffers to a quarter of memory; look for sequential scans of large tables.",
    guide="Baseline: database metrics",
)
async def cache_hits(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_COUNTS))[0]
    total = row["hit"] + row["read"]
    if total < patient.limits.fewest_blocks:
        return unknown(f"only {total} pages were read so far")
    share = row["hit"] / total
    return unless(share > patient.limits.database_cache_hits, f"{share:.2%} of {total} pages")


@check(
    "postgres.temporary-files",
    "sorts and hashes that did not fit into work_mem and went to disk",
    target="< 1 GB in all",
    remedy="Raise work_mem for that role alone, or give the statement an index to read in order.",
    guide="Quick reference: work_mem",
)
async def temporary_files(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_COUNTS))[0]
    return unless(row["temp_bytes"] < 1024**3, f"{row['temp_files']} files, {size(row['temp_bytes'])}")


@check(
    "postgres.deadlocks",
    "deadlocks for each transaction that committed",
    target="< 1 in 100,000",
    remedy="Lock rows in ascending key order, one table after another, as handlers must.",
    page="docs/runbook.md#deadlocks",
    guide="Baseline: database metrics",
)
async def deadlocks(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_COUNTS))[0]
    measured = f"{row['deadlocks']} in {row['commits']} transactions"
    return unless(row["deadlocks"] <= row["commits"] / 100_000, measured)


@check(
    "postgres.rollbacks",
    "transactions that were rolled back, of all",
    target="< 5 %",
    remedy="See streams_retries_total by reason, and the server's log for errors.",
)
async def rollbacks(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_COUNTS))[0]
    total = row["commits"] + row["rollbacks"]
    if total < 1000:
        return unknown(f"only {total} transactions so far")
    share = row["rollbacks"] / total
    return unless(share < patient.limits.retries, f"{share:.2%} of {total}")
