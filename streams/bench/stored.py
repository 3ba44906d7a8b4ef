"""What PostgreSQL holds after a run, and what it took to get there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.bench.story import Told

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

# One row per batch; every row of a batch was committed by one transaction, whose time the server keeps.
_COMMITS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(any_xmin)) AS at, count
FROM (SELECT batch_id, min(xmin::text)::xid AS any_xmin, count(*) AS count FROM event_history
      WHERE source LIKE 'urn:bench:' || $1 || ':%' GROUP BY batch_id) batches
ORDER BY at
"""

_BEGUN = """
SELECT extract(epoch FROM min(recorded_at)) AS at, count(*) AS count FROM event_history
WHERE source LIKE 'urn:bench:' || $1 || ':%' GROUP BY batch_id ORDER BY at
"""

_COUNT = "SELECT count(*) FROM event_history WHERE source LIKE 'urn:bench:' || $1 || ':%'"

_IDENTITY = """
SELECT count(*) AS events, count(DISTINCT (source, event_id)) AS distinct_events,
       bit_xor(('x0000' || right(event_id, 12))::bit(64)::bigint) AS ids
FROM event_history WHERE source LIKE 'urn:bench:' || $1 || ':%'
"""

_STATE = """
SELECT (SELECT count(*) FROM tasks WHERE created_at >= $1) AS tasks,
       (SELECT count(*) FROM tasks WHERE created_at >= $1 AND status = 'completed') AS completed,
       (SELECT count(*) FROM rounds WHERE created_at >= $1 AND opened_at IS NOT NULL) AS rounds,
       (SELECT count(*) FROM rounds WHERE created_at >= $1 AND decided_at IS NOT NULL) AS decided,
       (SELECT count(*) FROM outbox) AS outbox
"""

_ROWS = """
SELECT regexp_replace(relname, '_(p|w)?[0-9_]+$', '') AS name,
       sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS rows
FROM pg_stat_user_tables GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch: when it was committed (seconds since 1970), and its events."""

    at: float
    events: int


class Stored:
    """Asks the database.

    Args:
        name: the story's.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def commits(self) -> list[Commit]:
        """All batches in the order of their commits. A server that does not keep these times
        (`track_commit_timestamp`) gives those at which the transactions began."""
        kept = await self._connection.fetchval("SHOW track_commit_timestamp") == "on"
        rows = await self._connection.fetch(_COMMITS if kept else _BEGUN, self._name)
        return [Commit(float(row["at"]), row["count"]) for row in rows]

    async def count(self) -> int:
        """Events in the history."""
        count: int = await self._connection.fetchval(_COUNT, self._name)
        return count

    async def wal(self) -> int:
        """Bytes of write-ahead log written so far."""
        position: int = await self._connection.fetchval("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        return position

    async def rows(self) -> dict[str, int]:
        """Row versions written so far by table, partitions summed. Exact only once the writers have closed
        their connections: until then a session may hold its last counts back."""
        await self._connection.execute("SELECT pg_stat_clear_snapshot()")
        return {row["name"]: row["rows"] for row in await self._connection.fetch(_ROWS)}

    async def checks(self, told: Told, since: object) -> dict[str, bool]:
        """Whether everything told is stored, once."""
        events = await self._connection.fetchrow(_IDENTITY, self._name)
        state = await self._connection.fetchrow(_STATE, since)
        assert events is not None
        assert state is not None
        return {
            "every event is in the history": events["events"] == told.events,
            "none is there twice": events["distinct_events"] == events["events"],
            "they are the events that were sent": events["ids"] == told.ids,
            "every task and its end": (state["tasks"], state["completed"]) == (told.tasks, told.completed),
            "every round and its decision": (state["rounds"], state["decided"])
            == (told.rounds, told.decided),
            "the outbox is empty": state["outbox"] == 0,
        }
