"""Tables: dead rows, bloat, vacuum, statistics, transaction ids."""

from __future__ import annotations

from typing import Final

from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.words import size

_GUIDE: Final = "Database: vacuum & analyze strategy"

_DEAD: Final = """
SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live, last_autovacuum, last_vacuum
FROM pg_stat_user_tables
WHERE schemaname = 'public' AND n_dead_tup >= $1 AND n_dead_tup > $2 * (n_live_tup + n_dead_tup)
ORDER BY n_dead_tup DESC
"""

# What the rows should take, from the widths that ANALYZE found, against what the file takes. An estimate to
# within some ten per cent; tables whose columns we may not read have no widths and are left out.
_BLOAT: Final = """
WITH widths AS (
    SELECT schemaname, tablename, sum((1 - null_frac) * avg_width) AS width, count(*) AS columns
    FROM pg_stats WHERE schemaname = 'public' AND NOT inherited GROUP BY 1, 2
),
sizes AS (
    SELECT c.oid, c.relpages::float8 * 8192 AS actual,
           c.reltuples * (w.width + 24 + ceil(w.columns / 8.0) + 4) * 8192 / (8192 - 24)
           / (coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                        WHERE option_name = 'fillfactor'), 100) / 100) AS expected
    FROM widths w JOIN pg_class c ON c.relname = w.tablename JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = w.schemaname AND c.relkind = 'r' AND c.reltuples > 0
)
SELECT oid::regclass::text AS name, (actual - expected)::bigint AS wasted
FROM sizes WHERE actual - expected >= $1 AND actual > 2 * expected ORDER BY 2 DESC
"""

_STALE: Final = """
SELECT relid::regclass::text AS name, n_mod_since_analyze AS changed, n_live_tup AS live
FROM pg_stat_user_tables
WHERE schemaname = 'public' AND n_live_tup >= $1
  AND (n_mod_since_analyze > 0.2 * n_live_tup OR coalesce(last_analyze, last_autoanalyze) IS NULL)
ORDER BY n_mod_since_analyze DESC
"""

_SWITCHED_OFF: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND 'autovacuum_enabled=false' = ANY (c.reloptions)
"""

_AGES: Final = """
SELECT datname, age(datfrozenxid)::bigint AS xids, mxid_age(datminmxid)::bigint AS mxids
FROM pg_database WHERE datallowconn ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC LIMIT 1
"""


@check(
    "postgres.dead-rows",
    "tables of which a fifth and at least 10,000 rows are dead",
    target="< 20 %",
    remedy="VACUUM them; if it does not help, an old transaction or a replication slot holds the rows back.",
    guide=_GUIDE,
)
async def dead_rows(patient: Patient) -> Finding:
    limits = patient.limits
    rows = await patient.postgres.fetch(_DEAD, limits.large_table_rows, limits.dead_share)
    named = ", ".join(
        f"{row['name']} ({row['dead'] / (row['dead'] + row['live']):.0%} of {row['dead'] + row['live']})"
        for row in rows[:3]
    )
    return unless(not rows, named or "none", "", *(f"VACUUM (ANALYZE) {row['name']};" for row in rows))


@check(
    "postgres.bloat",
    "tables that take twice the room of their rows, and 100 MB more (an estimate from statistics)",
    target="< 50 %",
    remedy="VACUUM FULL locks the table: prefer pg_repack, or leave it if it is going to grow again.",
    guide=_GUIDE,
)
async def bloat(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(_BLOAT, patient.limits.bloat_bytes)
    named = ", ".join(f"{row['name']} ({size(row['wasted'])} of it empty)" for row in rows[:3])
    return unless(not rows, named or "none", "", *(f"-- VACUUM (FULL, ANALYZE) {r['name']};" for r in rows))


@check(
    "postgres.stale-statistics",
    "tables of 10,000 rows and more that were never analyzed, or changed by a fifth since",
    target="none",
    remedy="ANALYZE them: the planner works with what it knew of the table then.",
    guide=_GUIDE,
)
async def stale(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(_STALE, patient.limits.large_table_rows)
    named = ", ".join(f"{row['name']} ({row['changed']} changes, {row['live']} rows)" for row in rows[:3])
    return unless(not rows, named or "none", "", *(f"ANALYZE {row['name']};" for row in rows))


@check(
    "postgres.autovacuum-exempt",
    "tables for which autovacuum is switched off",
    target="none",
    remedy="Reset the parameter: dead rows stay, and the table must be frozen by force one day.",
    guide=_GUIDE,
)
async def exempt(patient: Patient) -> Finding:
    names = [row["name"] for row in await patient.postgres.fetch(_SWITCHED_OFF)]
    resets = [f"ALTER TABLE {name} RESET (autovacuum_enabled);" for name in names]
    return unless(not names, ", ".join(names) or "none", "", *resets)


@check(
    "postgres.autovacuum-workers",
    "autovacuum workers at work now, of those there may be",
    target="one is free",
    remedy="Raise autovacuum_vacuum_cost_limit (they finish sooner), then autovacuum_max_workers.",
    guide=_GUIDE,
)
async def workers(patient: Patient) -> Finding:
    most = int(patient.postgres.settings["autovacuum_max_workers"].number)
    busy = await patient.postgres.value(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    )
    return unless(busy < most, f"{busy} of {most} busy")


@check(
    "postgres.wraparound",
    "age of the oldest transaction id in any database; writes stop at 2.1 billion",
    target="< 500 million",
    remedy="VACUUM (FREEZE) what is oldest; find the transaction, slot or prepared transaction that "
    "holds it.",
)
async def wraparound(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_AGES))[0]
    age = max(row["xids"], row["mxids"])
    measured = f"{age / 1e6:,.1f} million ({row['datname']})"
    if age > 1_500_000_000:
        return critical(measured, "", "VACUUM (FREEZE, ANALYZE);")
    return unless(age < 500_000_000, measured, "", "VACUUM (FREEZE, ANALYZE);")


@check(
    "postgres.last-vacuum",
    "when autovacuum last looked after a table that changes, as a sign that it runs at all",
    target="within a day",
    remedy="Look at autovacuum, track_counts, and at what the server's log says of it.",
    guide=_GUIDE,
)
async def last_vacuum(patient: Patient) -> Finding:
    row = (
        await patient.postgres.fetch(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS changes, "
            "extract(epoch FROM now() - max(greatest(last_autovacuum, last_autoanalyze)))::float8 AS ago, "
            "extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS up "
            "FROM pg_stat_user_tables WHERE schemaname = 'public'"
        )
    )[0]
    if row["changes"] is None:
        return unknown("the tables are not there", "Run `streams migrate`.")
    if row["ago"] is not None and row["ago"] < 86_400:
        return ok(f"{row['ago'] / 60:.0f} min ago")
    if row["changes"] < patient.limits.large_table_rows or row["up"] < 3600:
        return ok("not needed yet")
    return warning("never" if row["ago"] is None else f"{row['ago'] / 86_400:.0f} days ago")
