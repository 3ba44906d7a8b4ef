"""Indexes: missing, unused, duplicate, broken; and what is read without one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from streams.doctor.model import Finding, check, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.postgres.probe import identifier
from streams.doctor.words import duration, size

_GUIDE: Final = "Database: index strategy"

_CREATE: Final = re.compile(
    r"^CREATE (?P<unique>UNIQUE )?INDEX (?P<name>\w+) ON (?P<table>\w+) (?P<rest>[^;]+);", re.MULTILINE
)

_EXISTING: Final = """
SELECT c.relname::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'
"""

_TABLES: Final = """
SELECT c.relname::text AS name, c.relkind = 'p' AS partitioned,
       array(SELECT i.inhrelid::regclass::text FROM pg_inherits i
             WHERE i.inhparent = c.oid ORDER BY 1) AS parts
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
"""

# Of a partitioned table all partitions count together: that one month's index is idle means nothing.
_UNUSED: Final = """
WITH used AS (
    SELECT coalesce((SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = s.indexrelid),
                    s.indexrelid) AS oid,
           sum(s.idx_scan) AS scans, sum(pg_relation_size(s.indexrelid)) AS bytes
    FROM pg_stat_user_indexes s WHERE s.schemaname = 'public' GROUP BY 1
)
SELECT u.oid::regclass::text AS name, u.bytes::bigint AS bytes
FROM used u JOIN pg_index i ON i.indexrelid = u.oid
WHERE u.scans = 0 AND u.bytes >= $1 AND NOT i.indisunique AND NOT i.indisprimary
ORDER BY u.bytes DESC
"""

_AGE: Final = """
SELECT extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time()))::float8 / 86400
FROM pg_stat_database WHERE datname = current_database()
"""

_DUPLICATE: Final = """
SELECT indrelid::regclass::text AS on_table,
       array_agg(indexrelid::regclass::text ORDER BY indisprimary DESC, indisunique DESC, indexrelid) AS names
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND NOT c.relispartition
GROUP BY indrelid, indkey::text, indclass::text, indcollation::text, indoption::text, c.relam,
         pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid)
HAVING count(*) > 1
"""

_INVALID: Final = """
SELECT i.indexrelid::regclass::text AS name FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND NOT (i.indisvalid AND i.indisready)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
"""

_SCANS: Final = """
SELECT relid::regclass::text AS name, seq_scan AS scans, seq_tup_read / seq_scan AS rows_each
FROM pg_stat_user_tables
WHERE schemaname = 'public' AND n_live_tup >= $1 AND seq_scan >= 50
  AND seq_tup_read / seq_scan > n_live_tup / 2
  AND seq_scan > coalesce(idx_scan, 0) / 10
ORDER BY seq_tup_read DESC
"""


class Wanted(NamedTuple):
    """An index that a migration makes."""

    name: str
    table: str
    unique: str
    rest: str


def wanted_indexes(sources: Iterable[Path | str]) -> Iterator[Wanted]:
    """The indexes in migrations, in the order they are made."""
    for source in sources:
        for path in sorted(Path(source).glob("*.sql")) if Path(source).is_dir() else ():
            for found in _CREATE.finditer(path.read_text()):
                yield Wanted(found["name"], found["table"], found["unique"] or "", found["rest"])


def creation(index: Wanted, partitions: Iterable[str] | None) -> list[str]:
    """What makes an index beside running writers; a partitioned table cannot do that in one statement."""
    rest = " ".join(index.rest.split())
    if partitions is None:
        return [
            f"CREATE {index.unique}INDEX CONCURRENTLY IF NOT EXISTS {index.name} ON {index.table} {rest};"
        ]
    made = [f"CREATE {index.unique}INDEX IF NOT EXISTS {index.name} ON ONLY {index.table} {rest};"]
    for partition in partitions:
        bare = partition.replace('"', "")
        own = identifier(f"{bare}_{index.name.removeprefix('idx_')}"[:63])
        made += [
            f"CREATE {index.unique}INDEX CONCURRENTLY IF NOT EXISTS {own} ON {partition} {rest};",
            f"ALTER INDEX {index.name} ATTACH PARTITION {own};",
        ]
    return made


@check(
    "postgres.missing-indexes",
    "the indexes that migrations make, the guide's among them",
    target="all there",
    remedy="Make them again, beside running writers; --fix-sql prints the statements.",
    page="docs/decisions/0003-indexes.md",
    guide=_GUIDE,
)
async def missing(patient: Patient) -> Finding:
    probe = patient.postgres
    existing = {row["name"] for row in await probe.fetch(_EXISTING)}
    tables = {row["name"]: row for row in await probe.fetch(_TABLES)}
    wanted = [w for w in wanted_indexes(patient.settings.migration_sources) if w.table in tables]
    if not wanted:
        return unknown("the tables are not there", "Run `streams migrate`.")
    absent = [index for index in wanted if index.name not in existing]
    if not absent:
        return ok(f"all {len(wanted)}")
    sql = [
        statement
        for index in absent
        for statement in creation(
            index, tables[index.table]["parts"] if tables[index.table]["partitioned"] else None
        )
    ]
    return warning(", ".join(index.name for index in absent), "", *sql)


@check(
    "postgres.unused-indexes",
    "indexes of a megabyte and more that no statement has used, over all partitions, in a week and longer",
    target="none",
    remedy="Drop one that no query of yours needs: each costs every write. Ask first whether a "
    "standby uses it.",
    page="docs/decisions/0003-indexes.md",
    guide=_GUIDE,
)
async def unused(patient: Patient) -> Finding:
    days = await patient.postgres.value(_AGE)
    if days < patient.limits.unused_after_days:
        return unknown(
            f"statistics are only {duration(days * 86400)} old",
            f"Ask after {patient.limits.unused_after_days:g} days.",
        )
    rows = await patient.postgres.fetch(_UNUSED, patient.limits.unused_bytes)
    named = ", ".join(f"{row['name']} ({size(row['bytes'])})" for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    drops = [f"-- DROP INDEX {row['name']};" for row in rows]
    return unless(not rows, (named or "none") + more, "", *drops)


@check(
    "postgres.duplicate-indexes",
    "indexes of one table on the same columns, operators and condition",
    target="none",
    remedy="Keep one of them: the others only cost writes.",
    guide=_GUIDE,
)
async def duplicate(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(_DUPLICATE)
    named = "; ".join(f"{' = '.join(row['names'])}" for row in rows)
    drops = [f"-- DROP INDEX CONCURRENTLY {name};" for row in rows for name in row["names"][1:]]
    return unless(not rows, named or "none", "", *drops)


@check(
    "postgres.invalid-indexes",
    "indexes that a build left unfinished: they cost writes and serve nobody",
    target="none",
    remedy="REINDEX INDEX CONCURRENTLY, or drop and make anew; a partitioned one lacks an attached part.",
    guide=_GUIDE,
)
async def invalid(patient: Patient) -> Finding:
    names = [row["name"] for row in await patient.postgres.fetch(_INVALID)]
    repairs = [f"REINDEX INDEX CONCURRENTLY {name};" for name in names]
    return unless(not names, ", ".join(names) or "none", "", *repairs)


@check(
    "postgres.sequential-scans",
    "tables of 10,000 rows and more that are often read from end to end",
    target="none",
    remedy="Find the statement (postgres.slow-statements, EXPLAIN) and give it an index, or a condition.",
    guide="Database: query analysis with EXPLAIN",
)
async def sequential_scans(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(_SCANS, patient.limits.large_table_rows)
    named = ", ".join(f"{row['name']} ({row['scans']} × {row['rows_each']} rows)" for row in rows[:3])
    return unless(not rows, named or "none")
