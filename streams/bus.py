"""What a process that holds values in memory hears: invalidations that Redis has applied.

A queue of its own on the exchange `cache-bus`, exclusive and gone with the connection. Whenever the line to
it is lost, or says something that cannot be understood, the memory is emptied: what was missed is not known.

Memory is used only for a few seconds after each proof that the line holds: the broker answers on the very
connection that deliveries come on, and Redis answers, too. A link that is dead without saying so (a lost
route, a stopped process) is found out by that, since the proofs stay away.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Final, Protocol

import aio_pika
import orjson
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from yarl import URL

from schemas.invalidations import CacheApplied
from streams.amqp import tolerate_any_property
from streams.cache.loading import REDIS_DOWN
from streams.lifecycle import UNREACHABLE, quietly
from streams.publisher import named
from streams.refusal import reason
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

_TYPE: Final = "cache.applied"
_MAX_BODY: Final = 4 * 1024 * 1024
_PROVE_SECONDS: Final = 1.0
_TRUST_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 10
_LONGEST_WAIT: Final = 5.0


class Memory(Protocol):
    """What is told: `streams.cache.Cache`."""

    def hear(self, keys: Iterable[str], tags: Iterable[str]) -> None: ...

    async def confirm(self, until: float) -> None: ...

    def deafen(self) -> None: ...


class CacheBus:
    """The ear of one process.

    Args:
        role: part of the queue's name, `cache-bus.<role>.<random>`, which is what the user's rights go by.
    """

    def __init__(self, url: str, role: str, memory: Memory, metrics: Metrics) -> None:
        self._url = str(URL(named(url, f"streams-{role}-bus")).update_query(heartbeat=_HEARTBEAT_SECONDS))
        self._role = role
        self._memory = memory
        self._up = metrics.cache_bus_up
        self._was_up = False
        self.is_up = False
        """Whether memory is in use."""

    async def run(self) -> None:
        """Listen until cancelled, through losses of the broker and of Redis."""
        tolerate_any_property()
        wait = 0.2
        while True:
            try:
                await self._listen()
            except UNREACHABLE as error:
                log.warning(
                    "cannot hear invalidations, memory is not used", error=reason(error), again_in=wait
                )
            if self._was_up:
                wait = 0.2
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _listen(self) -> None:
        """One connection from its beginning to its loss."""
        self._was_up = False
        lost = asyncio.Event()
        connection = await aio_pika.connect(self._url, timeout=5.0)
        try:
            connection.close_callbacks.add(lambda *_: lost.set())
            channel = await connection.channel(publisher_confirms=False)
            channel.close_callbacks.add(lambda *_: lost.set())
            queue = await self._subscribe(channel)
            await self._stay(channel, queue, lost)
        finally:
            self._tell(up=False)
            await quietly(connection.close(), "bus", 2.0)

    async def _subscribe(self, channel: AbstractChannel) -> AbstractQueue:
        name = f"{CacheApplied.exchange}.{self._role}.{os.urandom(8).hex()}"
        queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
        await queue.bind(CacheApplied.exchange, _TYPE)
        # Without acknowledgements: what is not heard now is not worth hearing later.
        await queue.consume(self._hear, no_ack=True)
        return queue

    async def _stay(self, channel: AbstractChannel, queue: AbstractQueue, lost: asyncio.Event) -> None:
        """Prove again and again that we hear; returns when the line is lost."""
        self._memory.deafen()
        while not lost.is_set():
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_TRUST_SECONDS):
                    await channel.declare_queue(queue.name, passive=True)
                    await self._memory.confirm(begun + _TRUST_SECONDS)
            except REDIS_DOWN as error:
                if self.is_up:
                    log.warning("Redis or the bus does not answer, memory is not used", error=reason(error))
                    self._tell(up=False)
            else:
                self._tell(up=True)
            try:
                async with asyncio.timeout(_PROVE_SECONDS):
                    await lost.wait()
            except TimeoutError:
                continue

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        names = _names(message.body)
        if names is None:
            log.warning(
                "a message on the cache bus makes no sense: memory is emptied", bytes=len(message.body)
            )
            self._memory.deafen()
        else:
            self._memory.hear(*names)

    def _tell(self, *, up: bool) -> None:
        if not up:
            self._memory.deafen()
        elif not self.is_up:
            log.info("invalidations are heard, memory is used")
            self._was_up = True
        self.is_up = up
        self._up.set(up)


def _names(body: bytes) -> tuple[list[str], list[str]] | None:
    """Keys and tags of a `cache.applied` event; None if it is none, or too large to look at."""
    if len(body) > _MAX_BODY:
        return None
    try:
        event = orjson.loads(body)
        data = event["data"]
        keys, tags = data.get("keys", []), data.get("tags", [])
        understood = event["type"] == _TYPE and all(isinstance(name, str) for name in [*keys, *tags])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return (keys, tags) if understood and isinstance(keys, list) and isinstance(tags, list) else None
