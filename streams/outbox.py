"""The outbox: what must be published after a commit, one row per batch, stored by that commit.

The pipeline publishes from memory and deletes the row afterwards; the sweeper publishes what a crash
left behind. A message may go out twice, never not at all, and always as the same bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import orjson
import structlog

from streams.publisher import Outgoing, Publisher, PublishFailed

if TYPE_CHECKING:
    from streams.database import Connection, Database
    from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

INSERT = "INSERT INTO outbox (batch_id, messages) VALUES ($1, $2)"

DELETE = "DELETE FROM outbox WHERE batch_id = ANY($1::uuid[])"

# Rows that their worker had time to publish and did not; other sweepers skip them.
LEFT_BEHIND = """
SELECT batch_id, messages FROM outbox
WHERE created_at < clock_timestamp() - $1::interval
ORDER BY created_at
LIMIT 20
FOR UPDATE SKIP LOCKED
"""

# Puts a row that could not be published behind the others.
POSTPONE = "UPDATE outbox SET created_at = clock_timestamp() WHERE batch_id = $1"

# Ids are UUIDv7: the least is the oldest, however often its row was postponed.
COUNT = "SELECT count(*), (SELECT batch_id FROM outbox ORDER BY batch_id LIMIT 1) FROM outbox"


def encode(messages: Sequence[Outgoing]) -> bytes:
    """JSON; bodies are JSON text themselves and stay readable in the table."""
    return orjson.dumps(
        [
            {
                "exchange": m.exchange,
                "routing_key": m.routing_key,
                "message_id": m.message_id,
                "type": m.type,
                "content_type": m.content_type,
                "headers": dict(m.headers),
                "mandatory": m.mandatory,
                "body": m.body.decode(),
            }
            for m in messages
        ]
    )


def decode(stored: bytes) -> list[Outgoing]:
    """The inverse of `encode`."""
    return [Outgoing(**{**row, "body": row["body"].encode()}) for row in orjson.loads(stored)]


async def insert(tx: Connection, batch_id: UUID, messages: Sequence[Outgoing]) -> None:
    await tx.execute(INSERT, batch_id, encode(messages))


class Outbox:
    """Deletes rows that are published, and sweeps those that were left behind.

    Args:
        grace: seconds after which a row counts as left behind; must exceed a normal publish.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        metrics: Metrics,
        *,
        grace: float,
        interval: float = 0.5,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._metrics = metrics
        self._grace = grace
        self._interval = interval
        self._published: list[UUID] = []

    def published(self, batch_id: UUID) -> None:
        """Note that all messages of a row are confirmed; the row is deleted with the next few."""
        self._published.append(batch_id)

    async def run(self) -> None:
        """Delete and sweep until cancelled; survives a database or broker that is away."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
                await self.sweep()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("outbox sweep failed, will try again", error=type(error).__name__)
            except Exception:
                log.exception("outbox sweep failed, will try again")  # a bug must not end the worker

    async def flush(self) -> None:
        """Delete the rows noted so far. A crash before this makes the sweeper publish them again."""
        done, self._published = self._published, []
        if not done:
            return
        try:
            await self._database.pool.execute(DELETE, done)
        except BaseException:
            self._published += done
            raise

    async def sweep(self) -> int:
        """Publish what was left behind; returns the number of rows."""
        done: list[UUID] = []
        async with self._database.transaction() as tx:
            rows = await tx.fetch(LEFT_BEHIND, timedelta(seconds=self._grace))
            for row in rows:
                try:
                    for message in decode(row["messages"]):
                        await self._publisher.publish(message)
                    done.append(row["batch_id"])
                except PublishFailed as error:
                    # Its neighbours must neither wait for it nor be published again because of it.
                    log.warning("cannot publish what was left behind", error=str(error))
                    await tx.execute(POSTPONE, row["batch_id"])
            if done:
                await tx.execute(DELETE, done)
                self._metrics.outbox_swept.inc(len(done))
                log.info("published what was left behind", batches=len(done))
        return len(done)

    async def pending(self) -> int:
        """Rows in the outbox now."""
        row = await self._database.pool.fetchrow(COUNT)
        assert row is not None
        count, oldest = int(row[0]), row[1]
        self._metrics.outbox_pending.set(count)
        age = 0.0 if oldest is None else time.time() - (oldest.int >> 80) / 1000
        self._metrics.outbox_oldest_seconds.set(max(0.0, age))
        return count
