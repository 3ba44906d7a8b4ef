"""Scores: what tasks and votes are worth, and how agents' scores follow from them.

A row (a task, a vote) contributes one thing to one agent on one day, or nothing. When a row changes,
the score changes by the difference: what it contributes now, less what it contributed before. So the
scores are at all times what a recount of the stored rows would give; `recompute` does that recount.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from handlers.sql import columns
from schemas import cache
from schemas.contract import Changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.sql import Connection


class Kind(StrEnum):
    """What a row can contribute; the names are columns of `agent_scores`."""

    COMPLETED = "completed"
    FAILED = "failed"
    AGREED = "agreed"


_BY_STATUS: Final = {"completed": Kind.COMPLETED, "failed": Kind.FAILED}
POINTS: Final = {Kind.COMPLETED: 10, Kind.FAILED: -5, Kind.AGREED: 3}

# Enters agents that were never heard of and locks the others; everything about an agent's scores is written
# under this lock.
LOCK_AGENTS: Final = """
INSERT INTO agent_registry (agent_id)
SELECT n.agent_id FROM unnest($1::uuid[]) AS n (agent_id) ORDER BY n.agent_id
ON CONFLICT (agent_id) DO UPDATE SET agent_id = agent_registry.agent_id WHERE false
RETURNING agent_id
"""

# Adds to the scores of agents and days, and their sums to the reputation of agents that have a row; who
# registers later starts with the sum. One statement, since each is a round trip while agents are locked.
ADD_SCORES: Final = """
WITH added AS (
    SELECT * FROM unnest($1::uuid[], $2::date[], $3::integer[], $4::integer[], $5::integer[], $6::integer[])
        AS n (agent_id, day, completed, failed, agreed, points)
), moved AS (
    UPDATE agents a SET reputation_score = a.reputation_score + n.points
    FROM (SELECT agent_id, sum(points) AS points FROM added GROUP BY agent_id HAVING sum(points) <> 0) AS n
    WHERE a.id = n.agent_id
)
INSERT INTO agent_scores AS s (agent_id, day, completed, failed, agreed, points)
SELECT agent_id, day, completed, failed, agreed, points FROM added ORDER BY agent_id, day
ON CONFLICT (agent_id, day) DO UPDATE SET
    completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
    agreed = s.agreed + excluded.agreed, points = s.points + excluded.points
"""


class Contribution(NamedTuple):
    """One thing on one day (UTC) of one agent."""

    agent_id: UUID
    day: date
    kind: Kind


def of_task(agent_id: UUID, status: str, finished_at: datetime) -> Contribution | None:
    """What a task contributes: to its agent, on the day that it ended."""
    kind = _BY_STATUS.get(status)
    return Contribution(agent_id, _day(finished_at), kind) if kind else None


def of_vote(agent_id: UUID, decided_at: datetime) -> Contribution:
    """What a vote contributes that counts and agrees with the decision of its round."""
    return Contribution(agent_id, _day(decided_at), Kind.AGREED)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


class Deltas:
    """The differences that a batch makes, summed up."""

    def __init__(self) -> None:
        self._counts: Counter[Contribution] = Counter()

    def move(self, before: Contribution | None, after: Contribution | None) -> None:
        """A row that contributed `before` contributes `after` now."""
        if before == after:
            return
        if before is not None:
            self._counts[before] -= 1
        if after is not None:
            self._counts[after] += 1

    def rows(self) -> list[tuple[UUID, date, int, int, int, int]]:
        """(agent, day, completed, failed, agreed, points) in ascending order, those of zero left out."""
        days: dict[tuple[UUID, date], Counter[Kind]] = {}
        for (agent_id, day, kind), count in self._counts.items():
            if count:
                days.setdefault((agent_id, day), Counter())[kind] = count
        return [
            (agent_id, day, counts[Kind.COMPLETED], counts[Kind.FAILED], counts[Kind.AGREED], _points(counts))
            for (agent_id, day), counts in sorted(days.items(), key=lambda item: item[0])
        ]


def _points(counts: Counter[Kind]) -> int:
    return sum(POINTS[kind] * count for kind, count in counts.items())


async def apply(tx: Connection, deltas: Deltas) -> dict[UUID, date]:
    """Add the differences; returns the agents whose scores changed, each with the first day that did.

    Comes last in a handler: agents are what batches contend for most, and come last in the lock order.
    """
    rows = deltas.rows()
    if not rows:
        return {}
    first: dict[UUID, date] = {}
    for agent_id, day, *_ in rows:
        first.setdefault(agent_id, day)
    await tx.execute(LOCK_AGENTS, list(first))
    await tx.execute(ADD_SCORES, *columns(rows))
    return first


def with_scores(changes: Changes, agents: Mapping[UUID, date]) -> Changes:
    """The same changes, and those of caches that show these agents' scores.

    Days before this month are named: leaderboards keep their sum and do not read them for every change.
    """
    keys, tags = set(changes.keys), set(changes.tags)
    month = datetime.now(UTC).date().replace(day=1)
    for agent_id, day in agents.items():
        if day < month:
            tags.add(cache.score_tag(agent_id, day))
        keys |= {cache.agent_key(agent_id), cache.agent_stats_key(agent_id)}
        tags |= {cache.agent_tag(agent_id), cache.AGENTS_TAG, cache.LEADERBOARDS_TAG}
    return Changes(keys=keys, tags=tags, events=changes.events)
