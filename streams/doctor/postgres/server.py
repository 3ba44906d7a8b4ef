"""The server itself: version, role, checksums, checkpoints."""

from __future__ import annotations

from streams.doctor.model import Finding, check, critical, ok, unknown, unless
from streams.doctor.patient import Patient


@check(
    "postgres.pending-restart",
    "parameters that were changed and wait for a restart",
    target="none",
    remedy="Restart the server at a quiet time; workers wait and go on by themselves.",
)
async def pending_restart(patient: Patient) -> Finding:
    names = [name for name, setting in patient.postgres.settings.items() if setting.pending_restart]
    return unless(not names, ", ".join(sorted(names)) or "none")


@check(
    "postgres.version",
    "the server's version",
    target="≥ 15",
    remedy="Upgrade: the migrations need 15. Minor releases repair; take each.",
)
async def version(patient: Patient) -> Finding:
    facts = patient.postgres.facts
    shown = str(facts["shown"]).split()[0]
    return ok(shown) if facts["version"] >= 150_000 else critical(shown)


@check(
    "postgres.primary",
    "whether DATABASE_URL leads to a primary",
    target="primary",
    remedy="Name all hosts in DATABASE_URL: the primary is found. A standby takes no writes.",
    page="docs/decisions/0004-pools-and-replicas.md",
)
async def primary(patient: Patient) -> Finding:
    return critical("standby") if patient.postgres.facts["standby"] else ok("primary")


@check(
    "postgres.checksums",
    "whether pages carry checksums",
    target="on",
    remedy="pg_checksums --enable while the server is down: else a failing disk corrupts in silence.",
)
async def checksums(patient: Patient) -> Finding:
    shown = patient.postgres.settings["data_checksums"].raw
    return unless(shown == "on", shown)


@check(
    "postgres.checkpoints",
    "checkpoints that the WAL's size forced, of all since statistics began",
    target="< 50 %",
    remedy="Raise max_wal_size until most come by time.",
    guide="Baseline: disk I/O operations",
)
async def checkpoints(patient: Patient) -> Finding:
    statement = (
        "SELECT num_timed AS timed, num_requested AS forced FROM pg_stat_checkpointer"
        if patient.postgres.facts["version"] >= 170_000
        else "SELECT checkpoints_timed AS timed, checkpoints_req AS forced FROM pg_stat_bgwriter"
    )
    row = (await patient.postgres.fetch(statement))[0]
    total = row["timed"] + row["forced"]
    if total < 10:
        return unknown(f"only {total} so far")
    sql = "ALTER SYSTEM SET max_wal_size = '4GB'; SELECT pg_reload_conf();"
    return unless(row["forced"] < total / 2, f"{row['forced']} of {total}", "", sql)
