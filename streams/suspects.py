"""Messages that may kill workers: found by their delivery count, convicted by trials that did not end.

A delivery count alone proves nothing. It grows for all that was prefetched when a worker died, and with
every lost connection. So what was delivered too often is a suspect, and is tried alone: nothing else is at
work in the process meanwhile. A trial is written down before it begins and crossed out when it ends, in
success or in an error. A suspect whose trial was begun by `TRIALS` processes that did not live to end it is
quarantined; its neighbours, whose counts grew alike, pass their first trial and are stored.

Where every process dies whatever it does, the fault is not a message's. So a death counts in full if the
process had stored something else before; that of another counts only while few messages have any: a worker
that always dies leaves its deaths with ever new suspects, for they are tried in no order. And where many
messages have deaths, two at the same one may be chance (with fifty among 4,000, in one case of four): there,
one more is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from uuid import UUID, uuid4, uuid5

import structlog

from schemas.errors import KillsWorker
from streams.delivery import Delivery, Item
from streams.solo import Solo

if TYPE_CHECKING:
    from streams.cache import RedisClient
    from streams.database import Database

log = structlog.get_logger(__name__)

TRIALS: Final = 2
"""Processes that must have died of a suspect, each while it tried nothing else."""
_FEW: Final = 4
"""Messages with deaths in one hour; where there are more, it is the worker that dies."""

_KEYS: Final = UUID("0f6d1f6c-3b1e-5b0d-8e0b-5a4a3f0d9c11")
_OPEN: Final = "suspect:open"
_DAYS: Final = 30  # a record is kept; a worker that dies for another reason leaves one behind

OTHERS = """
SELECT count(*) FROM suspect_trials WHERE key <> $1 AND begun_at > now() - interval '1 hour'
"""

BEGIN = """
INSERT INTO suspect_trials AS t (key, proven, unproven) VALUES ($1, $3::uuid[], $4::uuid[])
ON CONFLICT (key) DO UPDATE SET begun_at = now(),
    proven = CASE WHEN t.begun_at < now() - $5 * interval '1 day' THEN EXCLUDED.proven
        ELSE array_remove(t.proven, $2) || EXCLUDED.proven END,
    unproven = CASE WHEN t.begun_at < now() - $5 * interval '1 day' THEN EXCLUDED.unproven
        ELSE array_remove(t.unproven, $2) || EXCLUDED.unproven END
RETURNING cardinality(array_remove(proven, $2)), cardinality(array_remove(unproven, $2))
"""

END = "DELETE FROM suspect_trials WHERE key = $1"


class Deaths(NamedTuple):
    """Other processes that began a trial and did not live to end it."""

    proven: int
    """Those that had stored something else before."""
    unproven: int
    """Those of which that is not known, while few other messages had any deaths."""
    crowded: bool = False
    """Other messages have deaths, and not just a few of them."""

    @property
    def convict(self) -> bool:
        """Whether it is the message that they died of."""
        return self.proven + self.unproven >= TRIALS + self.crowded


class Trials(Protocol):
    """The record of trials. It must outlive the process, not the server."""

    async def begin(self, key: UUID, proven: bool) -> Deaths:
        """Write down that this process begins, and whether it has stored something else before."""
        ...

    async def end(self, key: UUID) -> None:
        """Cross out: it did no harm."""
        ...


class PostgresTrials:
    """The record of a worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._process = uuid4()

    async def begin(self, key: UUID, proven: bool) -> Deaths:
        async with self._database.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")  # it is our death that it must survive
            here, few = [self._process], await tx.fetchval(OTHERS, key) < _FEW
            row = await tx.fetchrow(
                BEGIN, key, self._process, here if proven else [], here if few and not proven else [], _DAYS
            )
        assert row is not None
        return Deaths(row[0], row[1], crowded=not few)

    async def end(self, key: UUID) -> None:
        async with self._database.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")
            await tx.execute(END, key)


class RedisTrials:
    """The record of an updater."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._process = str(uuid4())

    async def begin(self, key: UUID, proven: bool) -> Deaths:
        names = _redis_names(key)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(_OPEN, str(key))
            pipe.expire(_OPEN, 3600)
            pipe.scard(_OPEN)
            for name in names:
                pipe.srem(name, self._process)
                pipe.scard(name)
            _, _, open_, _, worked, _, others = await pipe.execute()
            few = open_ <= _FEW
            if proven or few:
                name = names[not proven]
                pipe.sadd(name, self._process)
                pipe.expire(name, _DAYS * 86_400)
                await pipe.execute()
        return Deaths(worked, others, crowded=not few)

    async def end(self, key: UUID) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.unlink(*_redis_names(key))
            pipe.srem(_OPEN, str(key))
            await pipe.execute()


def _redis_names(key: UUID) -> tuple[str, str]:
    """Of the processes that had stored something else before, and of those that had not."""
    return f"suspect:{{{key}}}:proven", f"suspect:{{{key}}}:unproven"


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
        return self._trial(f"{_identity(delivery)}\0read", stores=False)

    def trial(self, items: Sequence[Item]) -> AbstractAsyncContextManager[None]:
        """A trial of just these events, which are of one message.

        Raises:
            KillsWorker: it was tried alone before, and those who did died.
        """
        first = items[0]
        return self._trial(f"{_identity(first.delivery)}\0{first.index}\0{len(items)}", stores=True)

    @asynccontextmanager
    async def _trial(self, name: str, *, stores: bool) -> AsyncIterator[None]:
        key = uuid5(_KEYS, f"{self._queue}\0{name}")
        async with self._solo.alone():
            deaths = await self._trials.begin(key, self._solo.has_worked)
            if deaths.convict:
                died = deaths.proven + deaths.unproven
                raise KillsWorker(f"{died} workers died while they tried it alone")
            log.warning("trying a suspect alone", queue=self._queue, **deaths._asdict())
            try:
                yield
            except asyncio.CancelledError:
                raise  # it was still at it when the process had to go
            except BaseException:
                await self._end(key)
                raise
            await self._end(key)
            self._solo.has_worked = self._solo.has_worked or stores

    async def _end(self, key: UUID) -> None:
        try:
            await self._trials.end(key)
        except Exception as error:  # noqa: BLE001 - what it was about stands or failed for reasons of its own
            # The record stays; it names this process, whose own trials do not count against the message.
            log.warning("a trial's end could not be noted", queue=self._queue, error=type(error).__name__)


def _identity(delivery: Delivery) -> str:
    """What tells this message from another: its id if it has one, and its content."""
    return f"{delivery.message_id or ''}\0{blake2b(delivery.body, digest_size=16).hexdigest()}"
