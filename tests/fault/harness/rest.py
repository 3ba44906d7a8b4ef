"""Waiting until nothing of a trial is under way any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aio_pika
import asyncpg
from aio_pika.exceptions import AMQPError

from streams.demo.letters import QUARANTINE
from tests.fault.harness.place import Corner

PAUSE_SECONDS: Final = 0.2
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, AMQPError)


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at one look."""

    stored: int
    unpublished: int
    letters: int
    waiting: int


class Rest:
    """Looks at the places where an event can still be: by itself, not through the proxies."""

    def __init__(self, corner: Corner, queues: tuple[str, ...]) -> None:
        self._corner = corner
        self._queues = queues

    async def look(self) -> Look | None:
        """None: a server is away."""
        try:
            async with asyncio.timeout(30):
                stored, unpublished = await self._stored()
                waiting, letters = await self._depths()
        except _AWAY:
            return None
        return Look(stored, unpublished, letters, waiting)

    async def wait(self, events: int, letters: int, seconds: float) -> str:
        """Return "" once at rest, or what is still awaited when nothing has changed for `seconds`."""
        deadline, before = time.monotonic() + seconds, None
        while True:
            now = await self.look()
            if now is None:
                awaited = "a server is away"
            elif now.stored < events or now.letters < letters or now.unpublished or now.waiting:
                awaited = f"{now}, of {events} events and {letters} bad ones"
            else:
                return ""
            if now is not None and now != before:
                deadline, before = time.monotonic() + seconds, now
            if time.monotonic() > deadline:
                return awaited
            await asyncio.sleep(PAUSE_SECONDS)

    async def _stored(self) -> tuple[int, int]:
        connection = await asyncpg.connect(self._corner.database, timeout=10)
        try:
            stored = await connection.fetchval("SELECT count(*) FROM event_history")
            return stored, await connection.fetchval("SELECT count(*) FROM outbox")
        finally:
            await connection.close(timeout=5)

    async def _depths(self) -> tuple[int, int]:
        """Messages ready in the worker queues, and in quarantine."""
        connection = await aio_pika.connect(self._corner.amqp, timeout=10)
        async with connection:
            channel = await connection.channel()
            depths = []
            for name in (*self._queues, QUARANTINE):
                queue = await channel.declare_queue(name, passive=True)
                depths.append(queue.declaration_result.message_count or 0)
        return sum(depths[:-1]), depths[-1]


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = 120) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds:.0f} s"
        await asyncio.sleep(0.05)
