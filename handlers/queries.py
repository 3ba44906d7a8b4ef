"""The read side's SQL for single things, against the primary. Lists are in `handlers.lists`.

Statements are put together from code-owned parts only; whatever came with a request is a parameter.
"""

from __future__ import annotations

from datetime import date
from typing import Final
from uuid import UUID

from handlers import views
from handlers.boards import Board, Placed, Standing
from handlers.paging import Row
from handlers.periods import end_of, start_of
from handlers.selecting import Rows, instant_of
from schemas.cache import Period

AGENT_BY_ID: Final = f"SELECT {', '.join(views.AGENT)} FROM agents WHERE id = $1"  # noqa: S608

# The creation time is in the id: one partition is looked at.
TASK_BY_ID: Final = f"SELECT {', '.join(views.TASK)} FROM tasks WHERE id = $1 AND created_at = $2"  # noqa: S608

# A round with its tallies in one statement, hence of one moment.
ROUND_BY_ID: Final = """
SELECT r.id, r.created_at, r.task_id, r.options, r.quorum, r.opened_at, r.closes_at, r.closed_at,
    r.decided_choice, r.decided_at, r.decided_votes, r.decided_tally,
    t.choice AS tally_choice, t.weight AS tally_weight, t.votes AS tally_votes
FROM rounds r
LEFT JOIN round_tallies t ON t.round_id = r.id AND t.created_at = r.created_at AND t.votes > 0
WHERE r.id = $1 AND r.created_at = $2
ORDER BY t.weight DESC, t.choice
"""

# What is open comes from the index of open tasks, what has ended from the scores of its days, and the times
# of the last hundred from the index by status and date: nothing grows with the number of an agent's tasks,
# but for those that were cancelled, which are counted in an index.
AGENT_STATS: Final = """
SELECT EXISTS (SELECT FROM agents WHERE id = $1) AS known, open.*, cancelled.*, scored.*, recent.*
FROM (
    SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
        count(*) FILTER (WHERE status = 'assigned') AS assigned,
        count(*) FILTER (WHERE status = 'processing') AS processing
    FROM tasks WHERE agent_id = $1 AND status IN ('pending', 'assigned', 'processing')
) open, (
    SELECT count(*) AS cancelled FROM tasks WHERE agent_id = $1 AND status = 'cancelled'
) cancelled, (
    SELECT {scores} FROM agent_scores WHERE agent_id = $1
) scored, (
    SELECT count(*) AS recent_tasks, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS recent_p50,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS recent_p95
    FROM (
        SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM tasks
        WHERE agent_id = $1 AND status = 'completed' AND finished_at >= started_at
        ORDER BY created_at DESC LIMIT 100
    ) last
) recent
"""
_COUNTERS: Final = ("points", "completed", "failed", "agreed")
_OPEN: Final = ("pending", "assigned", "processing")

# Names come after the limit: a hundred look-ups instead of one per agent.
LEADERBOARD: Final = """
SELECT rank, agent_id, a.name, points, completed, failed, agreed FROM (
    SELECT rank() OVER (ORDER BY sum(points) DESC) AS rank, agent_id, sum(points) AS points,
        sum(completed) AS completed, sum(failed) AS failed, sum(agreed) AS agreed
    FROM agent_scores
    WHERE ($1::date IS NULL OR day >= $1) AND ($2::date IS NULL OR day < $2)
    GROUP BY agent_id ORDER BY points DESC, agent_id LIMIT 100
) best
LEFT JOIN agents a ON a.id = best.agent_id
ORDER BY points DESC, agent_id
"""

# An agent and those around it. Every agent of the period is sorted: the way for when there is no board.
AROUND: Final = """
WITH sums AS (
    SELECT agent_id, sum(points) AS points, sum(completed) AS completed, sum(failed) AS failed,
        sum(agreed) AS agreed
    FROM agent_scores
    WHERE ($1::date IS NULL OR day >= $1) AND ($2::date IS NULL OR day < $2)
    GROUP BY agent_id
), ranked AS (
    SELECT *, rank() OVER (ORDER BY points DESC) AS rank, count(*) OVER () AS size,
        row_number() OVER (ORDER BY points DESC, agent_id) AS place
    FROM sums
)
SELECT r.rank, r.agent_id, a.name, r.points, r.completed, r.failed, r.agreed, r.size
FROM ranked me JOIN ranked r ON r.place BETWEEN me.place - $4 AND me.place + $4
LEFT JOIN agents a ON a.id = r.agent_id
WHERE me.agent_id = $3
ORDER BY r.place
"""

SESSION_BY_HASH: Final = """
SELECT id, user_id, roles, expires_at FROM sessions WHERE token_hash = $1 AND expires_at > now()
"""


class Queries:
    """Reads of single things, each of them one statement; raises what `Rows` raises."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def agent(self, agent_id: UUID) -> Row | None:
        return await self._rows.row(AGENT_BY_ID, agent_id)

    async def agent_stats(self, agent_id: UUID, day: date) -> Row | None:
        """What an agent does and did, as of a day (UTC); None for one of which nothing is known."""
        starts = {period: start_of(period, day) for period in Period}
        columns = ", ".join(
            f"coalesce(sum({name}) FILTER (WHERE day >= ${number} AND day < ${number + 1}), 0)::int"
            f" AS {period}_{name}"
            for number, period in zip(range(2, 10, 2), Period, strict=True)
            for name in _COUNTERS
        )
        bounds = [bound for period, start in starts.items() for bound in _bounds(period, start)]
        [row] = await self._rows.fetch_heavy(AGENT_STATS.format(scores=columns), agent_id, *bounds)
        counts = {name: row[name] for name in (*_OPEN, "cancelled")}
        periods = {str(period): _period(row, period, start) for period, start in starts.items()}
        ever = periods[Period.ALL_TIME]
        if not row["known"] and not any(counts.values()) and not any(ever[name] for name in _COUNTERS):
            return None
        return {
            "agent_id": agent_id,
            "tasks": counts | {"completed": ever["completed"], "failed": ever["failed"]},
            "success_ratio": ever["success_ratio"],
            "periods": periods,
            "recent": {
                "tasks": row["recent_tasks"],
                "p50_seconds": _milliseconds(row["recent_p50"]),
                "p95_seconds": _milliseconds(row["recent_p95"]),
            },
        }

    async def task(self, task_id: UUID) -> Row | None:
        created_at = instant_of(task_id)
        return None if created_at is None else await self._rows.row(TASK_BY_ID, task_id, created_at)

    async def round(self, round_id: UUID) -> Row | None:
        created_at = instant_of(round_id)
        rows = [] if created_at is None else await self._rows.fetch(ROUND_BY_ID, round_id, created_at)
        if not rows:
            return None
        tallies = [
            {"choice": row["tally_choice"], "weight": row["tally_weight"], "votes": row["tally_votes"]}
            for row in rows
            if row["tally_choice"] is not None
        ]
        columns = {name: rows[0][name] for name in views.ROUND if name != "tallies"}
        return {**columns, "tallies": tallies}

    async def leaderboard(self, period: Period, start: date | None) -> Row:
        """The best hundred of the period that starts on `start`; of all time without it."""
        end = None if start is None else end_of(period, start)
        rows = await self._rows.fetch_heavy(LEADERBOARD, start, end)
        ranks = [{name: row[name] for name in views.names(views.Rank)} for row in rows]
        return {"period": period, "start": start, "end": end, "data": ranks}

    async def around(self, board: Board, agent_id: UUID, reach: int) -> Standing:
        """An agent's place in a leaderboard, and those of `reach` agents before and after it."""
        rows = await self._rows.fetch_heavy(AROUND, board.start, board.end, agent_id, reach)
        places = [Placed(**{name: value for name, value in row.items() if name != "size"}) for row in rows]
        return Standing(rows[0]["size"] if rows else 0, places)

    async def session(self, token_hash: bytes) -> Row | None:
        return await self._rows.row(SESSION_BY_HASH, token_hash)

    async def ping(self) -> None:
        await self._rows.fetch("SELECT 1")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _bounds(period: Period, start: date | None) -> tuple[date, date]:
    if start is None:
        return date.min, date.max
    return start, end_of(period, start)


def _period(row: Row, period: Period, start: date | None) -> Row:
    counters = {name: row[f"{period}_{name}"] for name in _COUNTERS}
    ended = counters["completed"] + counters["failed"]
    ratio = round(counters["completed"] / ended, 4) if ended else None
    return {"start": start, **counters, "success_ratio": ratio}
