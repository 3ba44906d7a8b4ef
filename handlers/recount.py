"""A recount of all scores from the stored tasks, rounds and votes: to check them, and to repair them."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from handlers.sql import columns

if TYPE_CHECKING:
    from handlers.sql import Connection


class Difference(NamedTuple):
    """A score that is not what the rows give; each side is (completed, failed, agreed, points).

    `day` is None for an agent's reputation: `stored` and `recounted` then hold the points alone.
    """

    agent_id: UUID
    day: date | None
    stored: tuple[int, ...]
    recounted: tuple[int, ...]


# Days whose scores differ from what tasks and votes give, from a day on; one statement, hence one snapshot.
# The rules are those of handlers.scores, said a second time on purpose.
DIFFERENT_DAYS: Final = """
WITH contributions AS (
    SELECT agent_id, (finished_at AT TIME ZONE 'UTC')::date AS day,
        (status = 'completed')::integer AS completed, (status = 'failed')::integer AS failed, 0 AS agreed
    FROM tasks
    WHERE status IN ('completed', 'failed') AND agent_id IS NOT NULL AND finished_at IS NOT NULL
    UNION ALL
    SELECT v.agent_id, (r.decided_at AT TIME ZONE 'UTC')::date, 0, 0, 1
    FROM rounds r
    JOIN votes v ON v.round_id = r.id AND v.created_at = r.created_at
    WHERE v.choice = r.decided_choice AND v.choice = ANY (r.options) AND NOT v.retracted AND NOT v.late
), recounted AS (
    SELECT agent_id, day, sum(completed)::integer AS completed, sum(failed)::integer AS failed,
        sum(agreed)::integer AS agreed,
        (10 * sum(completed) - 5 * sum(failed) + 3 * sum(agreed))::integer AS points
    FROM contributions GROUP BY agent_id, day
)
SELECT agent_id, day,
    COALESCE(s.completed, 0), COALESCE(s.failed, 0), COALESCE(s.agreed, 0), COALESCE(s.points, 0),
    COALESCE(r.completed, 0), COALESCE(r.failed, 0), COALESCE(r.agreed, 0), COALESCE(r.points, 0)
FROM agent_scores s FULL JOIN recounted r USING (agent_id, day)
WHERE day >= $1 AND (
    COALESCE(s.completed, 0), COALESCE(s.failed, 0), COALESCE(s.agreed, 0), COALESCE(s.points, 0)
) <> (
    COALESCE(r.completed, 0), COALESCE(r.failed, 0), COALESCE(r.agreed, 0), COALESCE(r.points, 0)
)
ORDER BY agent_id, day
"""

# Agents whose reputation is not the sum of their scores.
DIFFERENT_REPUTATIONS: Final = """
SELECT a.id, a.reputation_score, COALESCE(s.points, 0)::integer
FROM agents a
LEFT JOIN (SELECT agent_id, sum(points) AS points FROM agent_scores GROUP BY agent_id) s ON s.agent_id = a.id
WHERE a.reputation_score <> COALESCE(s.points, 0)
ORDER BY a.id
"""

# Lets nobody write scores until commit: all who do lock the agent in the registry first.
STOP_WRITERS: Final = "LOCK TABLE agent_registry IN SHARE ROW EXCLUSIVE MODE"

# Puts the recounted scores in the place of the stored ones.
SET_SCORES: Final = """
INSERT INTO agent_scores (agent_id, day, completed, failed, agreed, points)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::integer[], $4::integer[], $5::integer[], $6::integer[])
    AS n (agent_id, day, completed, failed, agreed, points)
ORDER BY n.agent_id, n.day
ON CONFLICT (agent_id, day) DO UPDATE SET
    completed = excluded.completed, failed = excluded.failed, agreed = excluded.agreed,
    points = excluded.points
"""

# Puts the sum of the scores in the place of the stored reputations.
SET_REPUTATIONS: Final = """
UPDATE agents a SET reputation_score = n.points
FROM unnest($1::uuid[], $2::integer[]) AS n (agent_id, points)
WHERE a.id = n.agent_id
"""


async def recompute(tx: Connection, since: date = date.min, *, repair: bool = False) -> list[Difference]:
    """Compare all scores with a recount; returns what differed.

    Args:
        tx: an open transaction if `repair` is set.
        since: days before it are left alone. Once partitions of `tasks` or `votes` have been detached, the
            days that their rows contributed to cannot be recounted: name a later one.
        repair: store the recount. Scores wait meanwhile; everything else goes on.
    """
    if repair:
        await tx.execute(STOP_WRITERS)
    different = await tx.fetch(DIFFERENT_DAYS, since)
    days = [Difference(row[0], row[1], tuple(row[2:6]), tuple(row[6:10])) for row in different]
    if repair and days:
        rows = [(difference.agent_id, difference.day, *difference.recounted) for difference in days]
        await tx.execute(SET_SCORES, *columns(rows))
    found = [(row[0], row[1], row[2]) for row in await tx.fetch(DIFFERENT_REPUTATIONS)]
    if repair and found:
        await tx.execute(SET_REPUTATIONS, *columns((agent_id, points) for agent_id, _, points in found))
    return days + [Difference(agent_id, None, (stored,), (points,)) for agent_id, stored, points in found]
