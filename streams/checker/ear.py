"""Hears what is invalidated, on a queue of its own that ends with it; takes nothing from the updaters."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import aio_pika
from aio_pika.exceptions import AMQPError

from schemas.errors import ConfigurationError, StreamsError
from streams.checker.subjects import Subject, subjects_of
from streams.publisher import named
from streams.refusal import explain
from streams.watch import Letter, events_of

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

_REMEMBERED: Final = 50_000
_QUEUE_LENGTH: Final = 100_000
_RETRY_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 5.0
_PATIENCE: Final = 0.1
_AWAY: Final = (AMQPError, OSError, RuntimeError)  # aiormq says RuntimeError of a channel that has closed


Still = Callable[[frozenset[str]], Awaitable[frozenset[str]]]


class NotAnnounced(StreamsError):
    """A commit that was read was not announced in time, or our ear was lost: nothing can be said."""


class Ear:
    """Listens while its context lasts; a broker that goes away is waited for.

    Args:
        hear: called with every subject that an invalidation names.
    """

    def __init__(self, url: str, hear: Callable[[Subject], None]) -> None:
        self._url = named(url, "streams verify")
        self._hear = hear
        self._batches: OrderedDict[str, None] = OrderedDict()
        self._heard = asyncio.Event()
        self._marks: dict[str, asyncio.Future[None]] = {}
        self._channel: AbstractChannel | None = None
        self._queue: AbstractQueue | None = None
        self.events = 0
        """Invalidations heard."""
        self.losses = 0
        """How often the broker went away."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the body runs.

        Raises:
            ConfigurationError: the broker cannot be reached at the start, or has no exchange `invalidations`.
        """
        try:
            connection = await self._listen()
        except _AWAY as error:
            raise ConfigurationError(f"cannot listen to invalidations: {explain(error) or error}") from error
        keeping = asyncio.create_task(self._keep(connection))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def all_announced(self, batches: frozenset[str], still: Still, seconds: float) -> None:
        """Return once each of these batches has been heard of, and all that was confirmed before this call.

        Args:
            batches: ids in the outbox of a snapshot.
            still: which of them are in the outbox still: those that are not have been published.

        Raises:
            NotAnnounced: not within `seconds`, or the broker went away.
            OSError, asyncpg.PostgresError: what `still` raises.
        """
        losses = self.losses
        try:
            async with asyncio.timeout(seconds):
                while batches := frozenset(batch for batch in batches if batch not in self._batches):
                    self._heard.clear()
                    try:
                        async with asyncio.timeout(_PATIENCE):
                            await self._heard.wait()
                    except TimeoutError:
                        batches = await still(batches)
                await self._mark()
        except (TimeoutError, AMQPError, RuntimeError) as error:
            raise NotAnnounced("not announced in time") from error
        if losses != self.losses:
            raise NotAnnounced("the broker went away")

    async def _mark(self) -> None:
        """A message to ourselves: when it comes, all that the broker had confirmed before has come, too."""
        if self._channel is None or self._queue is None:
            raise NotAnnounced("the broker is away")
        name = str(uuid4())
        mark = self._marks[name] = asyncio.get_running_loop().create_future()
        try:
            await self._channel.default_exchange.publish(
                aio_pika.Message(b"", message_id=name), routing_key=self._queue.name
            )
            await mark
        finally:
            del self._marks[name]

    async def _listen(self) -> aio_pika.abc.AbstractConnection:
        connection = await aio_pika.connect(self._url, timeout=10)
        try:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1000)
            queue = await channel.declare_queue(
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length": _QUEUE_LENGTH, "x-overflow": "drop-head"},
            )
            await queue.bind("invalidations", "#")
            await queue.consume(self._take, no_ack=True)
        except BaseException:
            await connection.close()
            raise
        self._channel, self._queue = channel, queue
        return connection

    async def _keep(self, connection: aio_pika.abc.AbstractConnection) -> None:
        """Listen again whenever the connection or the channel ends; close at the end."""
        try:
            while True:
                await self._end_of(connection)
                self.losses += 1
                self._channel = self._queue = None
                for mark in self._marks.values():
                    if not mark.done():
                        mark.set_exception(NotAnnounced("the broker went away"))
                await _hang_up(connection)
                connection = await self._again()
        finally:
            await _hang_up(connection)

    async def _end_of(self, connection: aio_pika.abc.AbstractConnection) -> None:
        """Return when the connection or its channel is closed."""
        assert self._channel is not None
        ends = [asyncio.ensure_future(what.closed()) for what in (connection, self._channel)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def _again(self) -> aio_pika.abc.AbstractConnection:
        while True:
            try:
                return await self._listen()
            except _AWAY:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if not message.exchange:
            mark = self._marks.get(message.message_id or "")
            if mark is not None and not mark.done():
                mark.set_result(None)
            return
        for seen in events_of(_letter(message)):
            data, event_id = seen.event.get("data"), str(seen.event.get("id", ""))
            if not isinstance(data, Mapping):
                continue
            self.events += 1
            for subject in set(subjects_of(_names(data, "keys"), _names(data, "tags"))):
                self._hear(subject)
            self._note(event_id.partition(":")[0])  # an invalidation's id is its batch's, a colon, a number

    def _note(self, batch: str) -> None:
        self._batches[batch] = None
        if len(self._batches) > _REMEMBERED:
            self._batches.popitem(last=False)
        self._heard.set()


async def _hang_up(connection: aio_pika.abc.AbstractConnection) -> None:
    """Close it, in whatever state it is."""
    with contextlib.suppress(TimeoutError, *_AWAY):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()


def _names(data: Mapping[str, object], field: str) -> list[object]:
    names = data.get(field, ())
    return names if isinstance(names, list) else []


def _letter(message: AbstractIncomingMessage) -> Letter:
    return Letter(
        message.exchange or "",
        message.routing_key or "",
        message.body,
        message.content_type or "",
        message.message_id,
        message.type,
        message.app_id,
        message.timestamp,
        message.headers,
    )
