"""Messages that may kill workers: found by their delivery count, convicted by trials that did not end.

A delivery count alone proves nothing. It grows for all that was prefetched when a worker died, and with
every lost connection. So what was delivered too often is a suspect, and is tried alone: nothing else is at
work in the process meanwhile. A trial is written down before it begins and crossed out when it ends, in
success or in an error. A suspect whose trial was begun by `TRIALS` processes that did not live to end it is
quarantined; its neighbours, whose counts grew alike, pass their first trial and are stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID, uuid4, uuid5

import structlog

from schemas.errors import KillsWorker
from streams.delivery import Delivery, Item
from streams.solo import Solo

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from streams.database import Database

log = structlog.get_logger(__name__)

TRIALS: Final = 2
"""Processes that must have died of a suspect, each while it tried nothing else."""

_KEYS: Final = UUID("0f6d1f6c-3b1e-5b0d-8e0b-5a4a3f0d9c11")
_DAYS: Final = 30  # a record is kept; a worker that dies for another reason leaves one behind

BEGIN = """
INSERT INTO suspect_trials AS t (key, processes) VALUES ($1, ARRAY[$2::uuid])
ON CONFLICT (key) DO UPDATE SET begun_at = now(), processes = CASE
    WHEN t.begun_at < now() - $3 * interval '1 day' THEN EXCLUDED.processes
    ELSE array_remove(t.processes, $2) || $2 END
RETURNING cardinality(processes) - 1
"""

END = "DELETE FROM suspect_trials WHERE key = $1"


class Trials(Protocol):
    """The record of trials. It must outlive the process, not the server."""

    async def begin(self, key: UUID) -> int:
        """Write down that this process begins; returns how many others began and did not end."""
        ...

    async def end(self, key: UUID) -> None:
        """Cross out: it did no harm."""
        ...


class PostgresTrials:
    """The record of a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._process = uuid4()

    async def begin(self, key: UUID) -> int:
        async with self._database.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")  # it is our death that it must survive
            died: int = await tx.fetchval(BEGIN, key, self._process, _DAYS)
        return died

    async def end(self, key: UUID) -> None:
        async with self._database.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")
            await tx.execute(END, key)


class RedisTrials:
    """The record of an updater."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._process = str(uuid4())

    async def begin(self, key: UUID) -> int:
        name = f"suspect:{key}"
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(name, self._process)
            pipe.expire(name, _DAYS * 86_400)
            pipe.scard(name)
            return int((await pipe.execute())[-1]) - 1

    async def end(self, key: UUID) -> None:
        await self._redis.unlink(f"suspect:{key}")


class Court:
    """Who works beside others and who alone, for one queue.

    Args:
        solo: shared by all queues of the process.
    """

    def __init__(self, queue: str, solo: Solo, trials: Trials) -> None:
        self._queue = queue
        self._solo = solo
        self._trials = trials

    def beside(self) -> AbstractAsyncContextManager[None]:
        """An attempt at events that nobody suspects."""
        return self._solo.beside()

    def decoding(self, delivery: Delivery) -> AbstractAsyncContextManager[None]:
        """A trial of reading a message. Raises what `trial` raises."""
        return self._trial(f"{_identity(delivery)}\0read")

    def trial(self, items: Sequence[Item]) -> AbstractAsyncContextManager[None]:
        """A trial of just these events, which are of one message.

        Raises:
            KillsWorker: it was tried alone before, and those who did died.
        """
        first = items[0]
        return self._trial(f"{_identity(first.delivery)}\0{first.index}\0{len(items)}")

    @asynccontextmanager
    async def _trial(self, name: str) -> AsyncIterator[None]:
        key = uuid5(_KEYS, f"{self._queue}\0{name}")
        async with self._solo.alone():
            died = await self._trials.begin(key)
            if died >= TRIALS:
                raise KillsWorker(f"{died} workers died while they tried it alone")
            log.warning("trying a suspect alone", queue=self._queue, died=died)
            try:
                yield
            except asyncio.CancelledError:
                raise  # it was still at it when the process had to go
            except BaseException:
                await self._end(key)
                raise
            await self._end(key)

    async def _end(self, key: UUID) -> None:
        try:
            await self._trials.end(key)
        except Exception as error:  # noqa: BLE001 - what it was about stands or failed for reasons of its own
            # The record stays; it names this process, whose own trials do not count against the message.
            log.warning("a trial's end could not be noted", queue=self._queue, error=type(error).__name__)


def _identity(delivery: Delivery) -> str:
    """What tells this message from another: its id if it has one, and its content."""
    return f"{delivery.message_id or ''}\0{blake2b(delivery.body, digest_size=16).hexdigest()}"
