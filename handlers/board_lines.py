"""What the database says of agents in leaderboards: of some agents in all boards, of all agents in one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Any, Final
from uuid import UUID

from handlers.boards import Board, Line, Score
from schemas.contract import RowReader

# Sums of some agents in some ranges of days. OFFSET 0: each agent's days are read from the primary key,
# however many agents there are; by the index of days it would be everybody's.
RECENT: Final = """
SELECT w.number, s.agent_id, sum(s.points), sum(s.completed), sum(s.failed), sum(s.agreed)
FROM unnest($1::uuid[]) AS n (agent_id)
CROSS JOIN LATERAL (
    SELECT * FROM agent_scores d WHERE d.agent_id = n.agent_id AND d.day >= $5 OFFSET 0
) s
JOIN unnest($2::integer[], $3::date[], $4::date[]) AS w (number, since, until)
    ON s.day >= w.since AND s.day < w.until
GROUP BY w.number, s.agent_id
"""

# Sums of some agents over all days before one.
BASE: Final = """
SELECT agent_id, sum(points), sum(completed), sum(failed), sum(agreed)
FROM agent_scores WHERE agent_id = ANY($1::uuid[]) AND day < $2 GROUP BY agent_id
"""

NAMES: Final = "SELECT id, name FROM agents WHERE id = ANY($1::uuid[])"

# Sums of all agents from one day until before another, and over the days before (none unless $3 is set).
EVERYBODY: Final = """
SELECT s.agent_id, a.name, points, completed, failed, agreed, b_points, b_completed, b_failed, b_agreed
FROM (
    SELECT agent_id,
        sum(points) FILTER (WHERE day >= $1) AS points,
        sum(completed) FILTER (WHERE day >= $1) AS completed,
        sum(failed) FILTER (WHERE day >= $1) AS failed,
        sum(agreed) FILTER (WHERE day >= $1) AS agreed,
        sum(points) FILTER (WHERE day < $1) AS b_points,
        sum(completed) FILTER (WHERE day < $1) AS b_completed,
        sum(failed) FILTER (WHERE day < $1) AS b_failed,
        sum(agreed) FILTER (WHERE day < $1) AS b_agreed
    FROM agent_scores
    WHERE day < $2 AND (day >= $1 OR $3)
    GROUP BY agent_id
) s
LEFT JOIN agents a ON a.id = s.agent_id
"""


async def lines_of(
    rows: RowReader, boards: Sequence[Board], agents: AbstractSet[UUID], whole: AbstractSet[UUID]
) -> Mapping[Board, list[Line]]:
    """What the database says of these agents now, for each board.

    Args:
        whole: those of them whose days before this month are to be read, too.
    """
    ids = sorted(agents)
    since = [board.since for board in boards]
    until = [board.end or date.max for board in boards]
    recent = {
        (row[0], row[1]): Score(*row[2:])
        for row in await rows.fetch(RECENT, ids, list(range(len(boards))), since, until, min(since))
    }
    names = {row[0]: row[1] for row in await rows.fetch(NAMES, ids)}
    found: dict[Board, list[Line]] = {}
    for number, board in enumerate(boards):
        read = whole if board.has_base else frozenset()
        base = await _bases(rows, board, read) if read else {}
        found[board] = [
            Line(id_, names.get(id_), recent.get((number, id_)), base.get(id_), id_ in read) for id_ in ids
        ]
    return found


async def _bases(rows: RowReader, board: Board, agents: AbstractSet[UUID]) -> dict[UUID, Score]:
    return {row[0]: Score(*row[1:]) for row in await rows.fetch(BASE, sorted(agents), board.since)}


async def all_lines(
    connection: Any, board: Board, chunk: int, *, seconds: float
) -> AsyncIterator[list[Line]]:
    """All agents of a board, some at a time.

    Args:
        connection: with an open transaction; all is of the moment that its statement begins.
        seconds: for one step; the first one sums everything up.
    """
    until = board.end or date.max
    cursor = await connection.cursor(EVERYBODY, board.since, until, board.has_base, timeout=seconds)
    while rows := await cursor.fetch(chunk, timeout=seconds):
        yield [Line(row[0], row[1], _score(row[2:6]), _score(row[6:10]), board.has_base) for row in rows]


def _score(sums: Sequence[int | None]) -> Score | None:
    points, completed, failed, agreed = sums
    if points is None or completed is None or failed is None or agreed is None:
        return None
    return Score(points, completed, failed, agreed)
