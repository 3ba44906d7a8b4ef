"""Connections: how many, in which states, who waits for whom, with which rights."""

from __future__ import annotations

from typing import Final

from streams.doctor.judging import clock_finding, link_finding
from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.postgres.probe import Postgres, identifier
from streams.doctor.words import duration

_TUNING: Final = "Database: connection pool tuning"
_TROUBLE: Final = "Troubleshooting: pool exhaustion"

_STATES: Final = """
SELECT count(*) AS used, current_setting('max_connections')::integer
       - current_setting('superuser_reserved_connections')::integer AS most
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

_IDLE: Final = """
SELECT pid, usename, application_name, extract(epoch FROM now() - state_change)::float8 AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%'
  AND now() - state_change > make_interval(secs => $1)
ORDER BY state_change
"""

_LONG: Final = """
SELECT pid, usename, application_name, extract(epoch FROM now() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND now() - xact_start > make_interval(secs => $1)
ORDER BY xact_start
"""

_BLOCKED: Final = """
SELECT a.pid, a.application_name, extract(epoch FROM now() - a.query_start)::float8 AS seconds,
       pg_blocking_pids(a.pid) AS by
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
  AND now() - a.query_start > make_interval(secs => $1)
ORDER BY a.query_start
"""

_ROLES: Final = """
SELECT DISTINCT a.application_name AS process, a.usename AS role, r.rolsuper, r.rolcreaterole, r.rolcreatedb
FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename
WHERE a.datname = current_database() AND a.application_name IN ('streams-worker', 'streams-api')
ORDER BY 1
"""


def _sees_sessions(probe: Postgres) -> Finding | None:
    if probe.sees_all:
        return None
    return unknown("only our own sessions are shown to this login", f"{probe.grant[:-1]}", probe.grant)


@check(
    "postgres.pool-size",
    "`max_size` of the profile's pool against the guide's formula",
    target="cores × 2 + 1 … × 4",
    remedy="Choose STREAMS_PROFILE for the machine: development 5, staging 20, production 50 "
    "connections a pool.",
    page="docs/decisions/0004-pools-and-replicas.md",
    guide=_TUNING,
)
async def pool_size(patient: Patient) -> Finding:
    cores, size = patient.database_cores, patient.settings.pool.max_size
    if cores is None:
        return unknown("the server's cores are not known", "Say --database-cores N.")
    formula = cores * 2 + 1
    measured = f"{size} a pool; {cores} cores make {formula}"
    return unless(formula / 4 <= size <= formula * 4, measured)


@check(
    "postgres.connections",
    "connections in use, of all databases, against `max_connections` without those reserved",
    target="< 80 %",
    remedy="Fewer or smaller pools (STREAMS_PROFILE), or a higher max_connections; above 95 % new "
    "workers fail.",
    page="docs/runbook.md#postgresconnections",
    guide=_TROUBLE,
)
async def connections(patient: Patient) -> Finding:
    row = (await patient.postgres.fetch(_STATES))[0]
    share = row["used"] / row["most"]
    measured = f"{row['used']} of {row['most']}"
    if share >= 0.95:
        return critical(measured)
    return unless(share < patient.limits.connections, measured)


@check(
    "postgres.idle-in-transaction",
    "sessions that hold a transaction open and do nothing, for a minute and longer",
    target="none",
    remedy="End them; find the program that forgets to commit. They hold locks, and back vacuum in "
    "every table.",
    guide=_TROUBLE,
)
async def idle_in_transaction(patient: Patient) -> Finding:
    if blind := _sees_sessions(patient.postgres):
        return blind
    rows = await patient.postgres.fetch(_IDLE, patient.limits.idle_in_transaction)
    if not rows:
        return ok("none")
    first = rows[0]
    return warning(
        f"{len(rows)}, the oldest for {duration(first['seconds'])} (pid {first['pid']})",
        "",
        *(f"-- SELECT pg_terminate_backend({row['pid']});" for row in rows),
    )


@check(
    "postgres.long-transactions",
    "transactions older than 5 minutes; from 30 minutes on de-duplication does not hold",
    target="< 5 min",
    remedy="Find out what they do (pg_stat_activity), cut them into pieces, or end them.",
    guide=_TROUBLE,
)
async def long_transactions(patient: Patient) -> Finding:
    if blind := _sees_sessions(patient.postgres):
        return blind
    rows = await patient.postgres.fetch(_LONG, patient.limits.long_transaction)
    if not rows:
        return ok("none")
    first = rows[0]
    measured = f"{len(rows)}, the oldest for {duration(first['seconds'])} (pid {first['pid']})"
    sql = f"-- SELECT pg_terminate_backend({first['pid']});"
    if first["seconds"] > patient.limits.endless_transaction:
        return critical(measured, "", sql)
    return warning(measured, "", sql)


@check(
    "postgres.lock-waits",
    "statements that have waited for a lock for 5 seconds and longer, and for whom",
    target="none",
    remedy="Look what the blocking session does; end it if it is forgotten. Our own waits last milliseconds.",
)
async def lock_waits(patient: Patient) -> Finding:
    if blind := _sees_sessions(patient.postgres):
        return blind
    rows = await patient.postgres.fetch(_BLOCKED, patient.limits.lock_wait)
    if not rows:
        return ok("none")
    blockers = sorted({pid for row in rows for pid in row["by"]})
    return critical(
        f"{len(rows)} wait, the longest for {duration(rows[0]['seconds'])}, for pid "
        f"{', '.join(map(str, blockers))}",
        "",
        *(f"-- SELECT pg_terminate_backend({pid});" for pid in blockers),
    )


@check(
    "postgres.prepared-transactions",
    "two-phase transactions that nobody ended",
    target="none",
    remedy="COMMIT PREPARED or ROLLBACK PREPARED them: they keep their locks for ever, restarts included.",
)
async def prepared(patient: Patient) -> Finding:
    found = await patient.postgres.value(
        "SELECT count(*) FROM pg_prepared_xacts WHERE prepared < now() - interval '5 minutes'"
    )
    return unless(not found, found or "none")


@check(
    "postgres.replication-slots",
    "slots that nobody reads, and the WAL that the server keeps for them",
    target="none inactive",
    remedy="Drop a slot whose reader is gone for good: the WAL that it holds fills the disk.",
)
async def slots(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(
        "SELECT slot_name, pg_size_pretty(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() "
        "THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)) AS held "
        "FROM pg_replication_slots WHERE NOT active AND NOT temporary"
    )
    if not rows:
        return ok("none inactive")
    named = ", ".join(f"{row['slot_name']} ({row['held']})" for row in rows)
    drops = [f"-- SELECT pg_drop_replication_slot('{row['slot_name']}');" for row in rows]
    return warning(named, "", *drops)


@check(
    "postgres.roles",
    "rights of the logins that `streams-worker` and `streams-api` are connected with",
    target="no superuser",
    remedy="Give each process the login of infra/postgres/logins.sql: a stolen worker then cannot "
    "rewrite history.",
    page="docs/security.md#users",
)
async def roles(patient: Patient) -> Finding:
    rows = await patient.postgres.fetch(_ROLES)
    if not rows:
        return unknown("no process of ours is connected")
    strong = [
        f"{row['process']} as {row['role']}"
        for row in rows
        if row["rolsuper"] or row["rolcreaterole"] or row["rolcreatedb"]
    ]
    if strong:
        return warning(f"superuser, or may create roles or databases: {'; '.join(strong)}")
    return ok(", ".join(f"{row['process']} as {identifier(row['role'])}" for row in rows))


@check(
    "postgres.clock",
    "the server's clock against ours",
    target="< 1 s apart",
    remedy="Run NTP (chrony) on both: events are refused by dates, and ages are measured across machines.",
)
async def clock(patient: Patient) -> Finding:
    return clock_finding(patient, patient.postgres.clock_ahead, resolution=patient.postgres.clock_doubt)


@check(
    "postgres.tls",
    "whether the URL asks for TLS, where the server is another machine",
    target="TLS, or loopback",
    remedy="Add ?sslmode=verify-full to DATABASE_URL.",
    page="docs/security.md#links",
    guide="API: connection pooling best practices",
)
async def link(patient: Patient) -> Finding:
    probe = patient.postgres
    return link_finding(secure=probe.uses_tls, local=probe.is_local)
