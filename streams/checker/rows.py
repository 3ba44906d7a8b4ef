"""What the API must answer, from the primary database: SQL of our own, so that a mistake in the API's shows.

Each row comes with its `xmin`, the transaction that wrote it. While a row keeps its xmin nobody has changed
it, however often we looked away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from schemas.cache import Period
from schemas.fields import dated
from streams.checker.subjects import PAGE, Kind, Subject

if TYPE_CHECKING:
    import asyncpg

    Pool = asyncpg.Pool[asyncpg.Record]
    Record = Mapping[str, Any]

_SECONDS: Final = 5.0
_JSON: Final = frozenset({"payload", "result", "error", "decided_tally"})
_HIDDEN: Final = frozenset({"version", "whole"})

_TASK: Final = """id, created_at, status, kind, agent_id, user_id, priority, progress, note, error, retryable,
    reason, assigned_at, started_at, finished_at, updated_at, xmin::text::bigint AS version"""
_AGENT: Final = """id, status, name, capabilities, is_active, reputation_score, created_at, updated_at,
    xmin::text::bigint AS version"""

TASK: Final = f"SELECT {_TASK}, payload, result FROM tasks WHERE id = $1 AND created_at = $2"  # noqa: S608
AGENT: Final = f"SELECT {_AGENT} FROM agents WHERE id = $1"  # noqa: S608
AGENTS: Final = f"SELECT {_AGENT} FROM agents ORDER BY id LIMIT {PAGE + 1}"  # noqa: S608
TASKS: Final = f"""
SELECT {_TASK} FROM tasks WHERE {{whose}} = $1 ORDER BY created_at DESC, id DESC LIMIT {PAGE + 1}
"""  # noqa: S608
ROUND: Final = """
SELECT r.id, r.created_at, r.task_id, r.options, r.quorum, r.opened_at, r.closes_at, r.closed_at,
    r.decided_choice, r.decided_at, r.decided_votes, r.decided_tally, r.xmin::text::bigint AS version,
    t.choice AS tally, t.weight AS tally_weight, t.votes AS tally_votes, t.xmin::text::bigint AS tally_version
FROM rounds r LEFT JOIN round_tallies t ON t.round_id = r.id AND t.created_at = r.created_at
WHERE r.id = $1 AND r.created_at = $2 ORDER BY t.weight DESC, t.choice
"""
# The first page; `whole` is about all votes of the round.
VOTES: Final = f"""
SELECT agent_id, choice, weight, confidence, rationale, cast_at, late, retracted,
    xmin::text::bigint AS version
FROM votes WHERE round_id = $1 AND created_at = $2 ORDER BY retracted, agent_id LIMIT {PAGE * 10}
"""  # noqa: S608
# The best hundred; `whole` is about every score of the period.
LEADERBOARD: Final = """
WITH scores AS (
    SELECT agent_id, day, completed, failed, agreed, points, xmin::text::bigint AS xmin FROM agent_scores
    WHERE ($1::date IS NULL OR day >= $1) AND ($2::date IS NULL OR day < $2)
), best AS (
    SELECT rank() OVER (ORDER BY sum(points) DESC) AS rank, agent_id, sum(points) AS points,
        sum(completed) AS completed, sum(failed) AS failed, sum(agreed) AS agreed,
        sum(hashtextextended(day::text || ' ' || xmin, 0)) AS version
    FROM scores GROUP BY agent_id ORDER BY points DESC, agent_id LIMIT 100
), every AS (
    SELECT coalesce(sum(hashtextextended(agent_id::text || day::text || ' ' || xmin, 0)), 0) AS whole
    FROM scores
)
SELECT best.*, a.name, every.whole
FROM best CROSS JOIN every LEFT JOIN agents a ON a.id = best.agent_id ORDER BY points DESC, agent_id
"""
SNAPSHOT: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
PENDING: Final = "SELECT batch_id::text FROM outbox"
STILL_PENDING: Final = "SELECT batch_id::text FROM outbox WHERE batch_id = ANY($1::text[]::uuid[])"
VERSIONS: Final = "SELECT id::text, xmin::text::bigint AS version FROM tasks WHERE id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True)
class Part:
    """One row of what is answered, or one part of a row that is written apart from others."""

    fields: Mapping[str, Any]
    version: int
    """Of the transaction that wrote it; leaderboards: of all that the sums are of."""

    @property
    def at(self) -> datetime | None:
        """An instant that never goes back while the row lives; None where there is none."""
        moment = self.fields.get("updated_at")
        return moment if isinstance(moment, datetime) else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one snapshot of the database says about a subject."""

    parts: Mapping[str, Part]
    """By name, in the order they are answered in."""
    has_more: bool = False
    whole: object = None
    """Equal in two readings: nothing that this answer could be made of has changed between. None: unknown."""
    snapshot: int = 0
    """Transactions below this number were over when this was read."""


@dataclass(frozen=True, slots=True)
class References:
    """Readings of one snapshot, and the batches in it that are perhaps not announced yet."""

    readings: Mapping[Subject, Reading]
    pending: frozenset[str]


@dataclass(slots=True)
class Rows:
    """Reads. Every method raises what asyncpg raises, and TimeoutError."""

    pool: Pool
    reads: int = field(default=0, init=False)

    async def references(self, subjects: Sequence[Subject]) -> References:
        """All of them from one snapshot, together with the outbox of that snapshot."""
        async with asyncio.timeout(_SECONDS * 2), self.pool.acquire() as connection:  # noqa: SIM117
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot = await connection.fetchval(SNAPSHOT)
                pending = {row[0] for row in await connection.fetch(PENDING)}
                readings = {}
                for subject in subjects:
                    statement, values = _statement(subject)
                    rows = await connection.fetch(statement, *values)
                    readings[subject] = _BUILD[subject.kind](rows, snapshot)
        self.reads += len(readings)
        return References(readings, frozenset(pending))

    async def now(self, subject: Subject) -> Reading:
        """The subject as it is now."""
        statement, values = _statement(subject)
        async with asyncio.timeout(_SECONDS):
            rows = await self.pool.fetch(statement, *values)
        self.reads += 1
        return _BUILD[subject.kind](rows, 0)

    async def pending(self, batches: frozenset[str]) -> frozenset[str]:
        """Those that are in the outbox still."""
        async with asyncio.timeout(_SECONDS):
            return frozenset(row[0] for row in await self.pool.fetch(STILL_PENDING, list(batches)))

    async def task_versions(self, names: Sequence[str]) -> dict[str, int]:
        """The versions of tasks, wherever they are listed now."""
        async with asyncio.timeout(_SECONDS):
            rows = await self.pool.fetch(VERSIONS, [UUID(name) for name in names])
        return {row["id"]: row["version"] for row in rows}


def _statement(subject: Subject) -> tuple[str, tuple[Any, ...]]:
    match subject.kind:
        case Kind.TASK:
            return TASK, _dated(subject.id)
        case Kind.AGENT:
            return AGENT, (UUID(subject.id),)
        case Kind.ROUND:
            return ROUND, _dated(subject.id)
        case Kind.VOTES:
            return VOTES, _dated(subject.id)
        case Kind.AGENT_TASKS:
            return TASKS.format(whose="agent_id"), (UUID(subject.id),)
        case Kind.USER_TASKS:
            return TASKS.format(whose="user_id"), (UUID(subject.id),)
        case Kind.AGENTS:
            return AGENTS, ()
        case Kind.LEADERBOARD:
            return LEADERBOARD, _days(Period(subject.id), datetime.now(UTC).date())


def _dated(text: str) -> tuple[UUID, datetime]:
    """An id, and the creation time in it, by which its partition is found."""
    entity = UUID(text)
    return entity, dated(entity)


def _days(period: Period, day: date) -> tuple[date | None, date | None]:
    """The period's first day, and the day after its last."""
    match period:
        case Period.DAILY:
            return day, day + timedelta(days=1)
        case Period.WEEKLY:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        case Period.MONTHLY:
            first = day.replace(day=1)
            return first, (first + timedelta(days=31)).replace(day=1)
        case Period.ALL_TIME:
            return None, None


def _single(rows: Sequence[Record], snapshot: int) -> Reading:
    parts = _by("id", rows)
    return Reading(parts, whole=_versions(parts), snapshot=snapshot)


def _page(rows: Sequence[Record], snapshot: int) -> Reading:
    """A row that came and went again leaves no trace in a page: `whole` stays unknown."""
    return Reading(_by("id", rows[:PAGE]), len(rows) > PAGE, snapshot=snapshot)


def _round(rows: Sequence[Record], snapshot: int) -> Reading:
    if not rows:
        return Reading({}, whole=(), snapshot=snapshot)
    columns = {name: value for name, value in rows[0].items() if not name.startswith("tally")}
    parts = {"round": _part(columns)}
    whole = [rows[0]["version"]]
    for row in rows:
        if row["tally"] is None:
            continue
        whole += [row["tally"], row["tally_version"]]
        if row["tally_votes"] > 0:
            fields = {"choice": row["tally"], "weight": row["tally_weight"], "votes": row["tally_votes"]}
            parts[f"tally of {row['tally']}"] = Part(fields, row["tally_version"])
    return Reading(parts, whole=tuple(whole), snapshot=snapshot)


def _votes(rows: Sequence[Record], snapshot: int) -> Reading:
    standing = [row for row in rows if not row["retracted"]]
    whole = _versions(_by("agent_id", rows)) if len(rows) < PAGE * 10 else None
    return Reading(_by("agent_id", standing[:PAGE]), len(standing) > PAGE, whole, snapshot)


def _leaderboard(rows: Sequence[Record], snapshot: int) -> Reading:
    """An agent's name is part of its line's version: it is written apart from the scores."""
    parts = {
        name: Part(part.fields, hash((part.version, part.fields["name"])))
        for name, part in _by("agent_id", rows).items()
    }
    names = tuple(part.fields["name"] for part in parts.values())
    return Reading(parts, whole=(rows[0]["whole"] if rows else 0, names), snapshot=snapshot)


_BUILD: Final[dict[Kind, Callable[[Sequence[Any], int], Reading]]] = {
    Kind.TASK: _single,
    Kind.AGENT: _single,
    Kind.ROUND: _round,
    Kind.VOTES: _votes,
    Kind.AGENT_TASKS: _page,
    Kind.USER_TASKS: _page,
    Kind.AGENTS: _page,
    Kind.LEADERBOARD: _leaderboard,
}


def _by(name: str, rows: Sequence[Record]) -> dict[str, Part]:
    return {str(row[name]): _part(row) for row in rows}


def _part(row: Record) -> Part:
    fields = {
        name: orjson.loads(value) if name in _JSON and isinstance(value, str) else value
        for name, value in row.items()
        if name not in _HIDDEN
    }
    return Part(fields, int(row["version"]))


def _versions(parts: Mapping[str, Part]) -> tuple[tuple[str, int], ...]:
    return tuple((name, part.version) for name, part in parts.items())
