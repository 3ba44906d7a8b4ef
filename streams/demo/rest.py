"""Waiting until nothing is under way any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aio_pika.abc import AbstractConnection

from schemas.errors import StreamsError
from streams.demo import letters
from streams.demo.ledger import Ledger
from streams.demo.observe import Observer

if TYPE_CHECKING:
    import asyncpg

QUIET_SECONDS: Final = 0.6
PAUSE_SECONDS: Final = 0.25

_STORED: Final = "SELECT count(*) FROM event_history WHERE source = ANY($1)"
_UNPUBLISHED: Final = """
SELECT count(*) FROM outbox
WHERE batch_id IN (SELECT DISTINCT batch_id FROM event_history WHERE source = ANY($1))
"""


class NotAtRest(StreamsError):
    """Something was still under way when the time was up; the message says what."""


@dataclass(slots=True)
class Rest:
    """Looks at all the places where an event of this run can still be."""

    connection: asyncpg.Connection[asyncpg.Record]
    broker: AbstractConnection
    observer: Observer
    ledger: Ledger
    queues: Sequence[str]
    letters_before: int
    """Messages in quarantine before the run."""
    stored: int = 0
    refused: int = 0
    awaited: list[str] = field(default_factory=list)
    """What was missing at the last look, in words."""

    async def look(self) -> None:
        """Bring `stored` and `refused` up to date."""
        self.stored = await self.connection.fetchval(_STORED, self.ledger.sources)
        self.refused = await letters.count(self.broker) - self.letters_before

    async def missing(self) -> list[str]:
        """What is still awaited, in words; empty when at rest."""
        await self.look()
        awaited = []
        if self.stored < len(self.ledger.good):
            awaited.append(f"{len(self.ledger.good) - self.stored} events not stored")
        if self.refused < len(self.ledger.bad):
            awaited.append(f"{len(self.ledger.bad) - self.refused} bad events not in quarantine")
        for name, waiting in (await self._depths()).items():
            if waiting:
                awaited.append(f"{waiting} messages in {name}")
        unpublished = await self.connection.fetchval(_UNPUBLISHED, self.ledger.sources)
        if unpublished:
            awaited.append(f"{unpublished} batches in the outbox")
        if self.observer.outstanding():
            awaited.append(f"{self.observer.outstanding()} invalidations not applied")
        self.awaited = awaited
        return awaited

    async def wait(self, seconds: float, progress: Callable[[], None]) -> None:
        """Return when nothing is awaited and nothing has been heard for a while.

        Raises:
            NotAtRest: not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while (awaited := await self.missing()) or time.time() - self.observer.last_heard < QUIET_SECONDS:
            progress()
            if time.monotonic() > deadline:
                raise NotAtRest(
                    f"not at rest after {seconds:.0f} s: {', '.join(awaited) or 'events keep coming'}"
                )
            await asyncio.sleep(PAUSE_SECONDS)

    async def _depths(self) -> dict[str, int]:
        """Messages that wait for a consumer. What a consumer holds unacknowledged is not in here; it shows
        in the history, in quarantine, in the outbox or among the invalidations."""
        channel = await self.broker.channel()
        try:
            depths = {}
            for name in self.queues:
                queue = await channel.declare_queue(name, passive=True)
                depths[name] = queue.declaration_result.message_count or 0
            return depths
        finally:
            await channel.close()
