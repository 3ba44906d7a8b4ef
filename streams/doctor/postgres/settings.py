"""The server's settings: one check for each that matters, one for the rest of our configuration file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.postgres.probe import Postgres, Setting, identifier, literal, parse_quantity
from streams.stack.places import configuration

_MIB: Final = 1024 * 1024
_QUICK: Final = "Quick reference: PostgreSQL"
_VACUUM: Final = "Database: vacuum & analyze strategy"
_LOG: Final = "Database: slow query log analysis"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a parameter should be.

    Args:
        good: judges a setting.
        target: the same in words.
        advice: what is set instead, as SQL takes it.
        why: what happens otherwise.
        restart: takes effect after one.
        grave: data is at stake, not only speed.
    """

    name: str
    good: Callable[[Setting], bool]
    target: str
    advice: str
    why: str
    guide: str = _QUICK
    restart: bool = False
    grave: bool = False


def _is(*values: str) -> Callable[[Setting], bool]:
    return lambda setting: setting.raw in values


def _from(least: float, most: float = float("inf")) -> Callable[[Setting], bool]:
    return lambda setting: least <= setting.number <= most


RULES: Final = (
    Rule("fsync", _is("on"), "on", "on", "A power cut corrupts the database.", grave=True),
    Rule("full_page_writes", _is("on"), "on", "on", "A torn page cannot be repaired.", grave=True),
    Rule(
        "synchronous_commit", _is("on", "remote_apply", "remote_write", "local"), "on", "on",
        "Events are acknowledged before they are on disk: a crash loses them.", grave=True,
    ),
    Rule("autovacuum", _is("on"), "on", "on", "Dead rows pile up until the server stops for wraparound.",
         _VACUUM, grave=True),
    Rule("track_counts", _is("on"), "on", "on", "Autovacuum and this report are blind.", _VACUUM),
    Rule("autovacuum_naptime", _from(1, 60), "≤ 1 min", "'10s'",
         "Hot tables rot between two visits.", _VACUUM),
    Rule("autovacuum_vacuum_scale_factor", _from(0, 0.1), "≤ 0.1", "0.05",
         "A large table waits for a fifth of it to be dead.", _VACUUM),
    Rule("autovacuum_analyze_scale_factor", _from(0, 0.05), "≤ 0.05", "0.02",
         "The planner works with old statistics.", _VACUUM),
    Rule("shared_buffers", _from(128 * _MIB), "≥ 128MB", "'1GB'",
         "The working set is read from disk; a quarter of memory is a good value.", restart=True),
    Rule("effective_cache_size", _from(512 * _MIB), "≥ 512MB", "'4GB'",
         "The planner shuns indexes; give half to three quarters of memory."),
    Rule("work_mem", _from(4 * _MIB, 64 * _MIB), "4MB … 64MB", "'16MB'",
         "Less spills to disk; more, times the connections, exhausts memory."),
    Rule("maintenance_work_mem", _from(64 * _MIB, 4096 * _MIB), "64MB … 4GB", "'512MB'",
         "Index builds and vacuum take longer than they need."),
    Rule("max_connections", _from(100, 1000), "100 … 1000", "200",
         "Pools of all processes must fit; thousands cost memory and snapshots: use a pooler.", restart=True),
    Rule("idle_in_transaction_session_timeout", _from(1, 600), "≤ 10 min", "'10min'",
         "A forgotten transaction holds back vacuum for ever."),
    Rule("jit", _is("off"), "off", "off",
         "Compiling costs more than these short statements take (the guide's `on` is for reports)."),
    Rule("random_page_cost", _from(1, 2), "1 … 2 on flash", "1.1", "The planner prefers sequential scans."),
    Rule("max_wal_size", _from(1024 * _MIB), "≥ 1GB", "'2GB'", "A steady stream forces checkpoints."),
    Rule("checkpoint_completion_target", _from(0.7, 1), "≥ 0.7", "0.9",
         "Checkpoints come as bursts of writes."),
    Rule("wal_level", _is("replica", "logical"), "replica", "replica",
         "No standby and no point-in-time recovery.", restart=True),
    Rule("password_encryption", _is("scram-sha-256"), "scram-sha-256", "'scram-sha-256'",
         "md5 hashes can be replayed."),
    Rule("track_io_timing", _is("on"), "on", "on", "Nobody can tell slow disks from slow plans."),
    Rule("log_min_duration_statement", _from(0.05, 1), "50 ms … 1 s", "'100ms'",
         "Slow statements leave no trace; at 0 every statement is written down.", _LOG),
    Rule("log_statement", _is("none", "ddl"), "none or ddl", "'none'",
         "Every write is logged: an overhead of its own, and payloads in the log.",
         "Bottlenecks: logging overhead"),
    Rule("log_connections", lambda s: s.raw not in ("off", ""), "on", "on",
         "Connection storms go unseen.", _LOG),
    Rule("log_disconnections", _is("on"), "on", "on", "How long sessions live goes unseen.", _LOG),
    Rule("log_lock_waits", _is("on"), "on", "on", "Who waited for whom goes unseen.", _LOG),
    Rule("log_checkpoints", _is("on"), "on", "on", "Forced checkpoints go unseen.", _LOG),
    Rule("log_parameter_max_length", _from(0, 0), "0", "0",
         "Event payloads stand in the server's log.", _LOG),
    Rule("log_parameter_max_length_on_error", _from(0, 0), "0", "0",
         "Event payloads stand in the server's log.", _LOG),
    Rule("log_error_verbosity", _is("terse"), "terse", "'terse'",
         "DETAIL quotes rows in the server's log.", _LOG),
)  # fmt: skip


def _judge(rule: Rule, setting: Setting, probe: Postgres) -> Finding:
    if rule.good(setting):
        return ok(setting.shown)
    return (critical if rule.grave else warning)(setting.shown, "", change(rule, setting, probe))


def change(rule: Rule, setting: Setting, probe: Postgres) -> str:
    """The statement that changes a parameter where it was set: what a database or a role says comes first."""
    database, role = (identifier(str(probe.facts[name])) for name in ("database", "role"))
    if setting.source == "database":
        return f"ALTER DATABASE {database} RESET {rule.name};"
    if setting.source == "user":
        return f"ALTER ROLE {role} RESET {rule.name};"
    if setting.source == "database user":
        return f"ALTER ROLE {role} IN DATABASE {database} RESET {rule.name};"
    last = " -- then restart" if rule.restart else " SELECT pg_reload_conf();"
    return f"ALTER SYSTEM SET {rule.name} = {rule.advice};{last}"


def _register(rule: Rule) -> None:
    @check(
        f"postgres.setting.{rule.name}",
        f"`{rule.name}`",
        target=rule.target,
        remedy=f"{rule.why} Set it to {rule.advice.strip(chr(39))}.",
        page="docs/servers.md#postgresql-15-to-17",
        guide=rule.guide,
    )
    async def examine(patient: Patient) -> Finding:
        setting = patient.postgres.settings.get(rule.name)
        if setting is None:
            probe = patient.postgres
            return unknown("may not be seen by this login", probe.grant.rstrip(";"), probe.grant)
        return _judge(rule, setting, patient.postgres)


for _rule in RULES:
    _register(_rule)


@check(
    "postgres.configuration",
    "the other parameters of infra/postgres/postgresql.conf; those it marks `scale` may be larger",
    target="as in the file",
    remedy="Take over what you have no reason to change; --fix-sql prints it.",
    page="docs/servers.md#postgresql-15-to-17",
)
async def configuration_file(patient: Patient) -> Finding:
    settings = patient.postgres.settings
    judged = {rule.name for rule in RULES} | {"log_line_prefix", "shared_preload_libraries"}
    differing = []
    for name, wanted, scales in file_settings(configuration("postgres/postgresql.conf").read_text()):
        setting = settings.get(name)
        if setting is None or name in judged or same(setting, wanted, scales=scales):
            continue
        differing.append((name, setting.shown, wanted))
    shown = ", ".join(f"{name} {is_}" for name, is_, _ in differing[:4])
    more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
    sql = [f"-- ALTER SYSTEM SET {name} = {wanted};" for name, _, wanted in differing]
    return unless(not differing, (shown or "as in the file") + more, "", *sql)


def file_settings(text: str) -> list[tuple[str, str, bool]]:
    """(name, value as SQL takes it, marked `scale`) of each line of a configuration file."""
    found = []
    for line in text.splitlines():
        name, is_setting, rest = line.partition("=")
        if not is_setting or name.strip().startswith("#"):
            continue
        value, _, comment = rest.partition("#")
        value = value.strip()
        quoted = value if value.startswith("'") or parse_quantity(value) == _plain(value) else literal(value)
        found.append((name.strip(), quoted, "scale" in comment))
    return found


def _plain(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def same(setting: Setting, wanted: str, *, scales: bool) -> bool:
    """Whether a parameter is what a configuration file says; larger will do where it scales."""
    plain = wanted.strip("'").replace("''", "'")
    number = parse_quantity(plain)
    if setting.kind in ("integer", "real") and number is not None:
        # A number without a unit counts in the parameter's own.
        own = (
            Setting(plain, setting.unit, setting.kind, False).number
            if plain.lstrip("-").replace(".", "").isdigit()
            else number
        )
        return setting.number == own or (scales and setting.number >= own)
    return setting.raw.replace(" ", "").lower() == plain.replace(" ", "").lower()
