"""Reads the quarantine queue from its head, and leaves everything where it was.

A quorum queue has no cursor: to see what stands behind a letter one has to hold the letter. So letters
are consumed and not acknowledged, in windows (a consumer on a channel of its own, with so much prefetch),
and go back when the channels close. Consumers are cancelled first and the channels closed one by one, so
that the letters return in their order. Each look adds one to their delivery counts, of which the queue
allows a million. basic.get would return them in no order, and reads at a tenth of the speed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from schemas.errors import ConfigurationError, Unavailable
from streams.amqp import tolerate_any_property
from streams.dlq.letter import Letter, read
from streams.dlq.select import Selection
from streams.publisher import named
from streams.refusal import reason
from streams.topology import QUARANTINE

_FIRST_WINDOW: Final = 100
_LARGEST_WINDOW: Final = 2_000
_WINDOW_BYTES: Final = 64 * 1024 * 1024  # of the largest letters seen so far, that a window may hold
_IDLE: Final = 0.25  # seconds without a letter after which the queue is asked whether there is one
_PATIENCE: Final = 30.0
_RETURN_TRIES: Final = 400
_RETURN_SECONDS: Final = 0.005


class Interrupted(Unavailable):
    """The broker closed the channel: letters may have been held for longer than its consumer_timeout."""


@dataclass(frozen=True, slots=True)
class Held:
    """A letter that is ours until it is taken out, or the channels close."""

    letter: Letter
    is_meant: bool
    _message: _Handle

    async def take_out(self) -> None:
        """Remove it from the queue for good."""
        await self._message.ack()


@dataclass(slots=True)
class _Handle:
    """Where to acknowledge a message, without its body."""

    window: _Window
    tag: int

    async def ack(self) -> None:
        channel = await self.window.channel.get_underlay_channel()
        await channel.basic_ack(self.tag, wait=False)
        self.window.acknowledged += 1


@dataclass(slots=True)
class _Window:
    """One consumer, and what it was given."""

    channel: AbstractChannel
    queue: AbstractQueue
    size: int
    consumer: str = ""
    delivered: int = 0
    acknowledged: int = 0

    @property
    def held(self) -> int:
        return self.delivered - self.acknowledged


class Browser:
    """One pass over the letters that are in the queue when it begins.

    Args:
        selection: which letters are meant; of the others the bodies are not kept.
        bodies: keep the bodies of those that are.
        largest_window: letters that may be handed out to us and wait here.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        selection: Selection,
        *,
        bodies: bool = False,
        largest_window: int = _LARGEST_WINDOW,
    ) -> None:
        self._connection = connection
        self._selection = selection
        self._bodies = bodies
        self._largest_window = largest_window
        self._largest_body = 1
        self._windows: list[_Window] = []
        self._arrived: deque[Held] = deque()
        self._news = asyncio.Event()
        self._asking: AbstractChannel | None = None
        self.others = 0
        """Consumers that somebody else has on the queue: letters that they hold are not seen."""

    async def __aenter__(self) -> Self:
        self._asking = await self._connection.channel(publisher_confirms=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give everything back, in its order."""
        # Whatever keeps this from being done in order: the end of the connection gives them back, too.
        with suppress(AMQPError, OSError, RuntimeError):
            for window in self._windows:
                if not window.channel.is_closed:
                    await window.queue.cancel(window.consumer)
            for window in self._windows:
                before = (await self._count())[0]
                if not window.channel.is_closed:
                    await window.channel.close()
                await self._returned(before + window.held)
            assert self._asking is not None
            await self._asking.close()

    async def letters(self) -> AsyncIterator[Held]:
        """Every letter, from the oldest on; those that come meanwhile are left for the next pass.

        Raises:
            ConfigurationError: there is no quarantine queue.
            Interrupted: the broker took the letters back.
        """
        left, self.others = await self._count()
        waited = 0.0
        while left > 0:
            if sum(window.size - window.held for window in self._windows) <= 0:
                await self._open(left)
            if not self._arrived:
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _IDLE)
            if not self._arrived:
                waited += _IDLE
                if any(window.channel.is_closed for window in self._windows):
                    raise Interrupted("the broker closed the channel that held the letters")
                if (await self._count())[0] == 0:
                    return  # somebody else has taken or holds the rest
                if waited > _PATIENCE:
                    raise Interrupted("the broker hands no more letters out")
                continue
            waited = 0.0
            left -= 1
            yield self._arrived.popleft()

    async def _open(self, left: int) -> None:
        """Another window, behind the letters that are held."""
        most = self._largest_window if self._windows else min(self._largest_window, _FIRST_WINDOW)
        size = max(1, min(most, left, max(20, _WINDOW_BYTES // self._largest_body)))
        channel = await self._connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=size)
        window = _Window(channel, await channel.get_queue(QUARANTINE, ensure=False), size)
        self._windows.append(window)

        async def arrive(message: AbstractIncomingMessage) -> None:
            self._arrive(window, message)

        window.consumer = await window.queue.consume(arrive)

    def _arrive(self, window: _Window, message: AbstractIncomingMessage) -> None:
        assert message.delivery_tag is not None
        self._largest_body = max(self._largest_body, len(message.body))
        window.delivered += 1
        letter = read(message)
        is_meant = self._selection.means(letter)
        if not (is_meant and self._bodies):
            letter = letter.without_body()
        self._arrived.append(Held(letter, is_meant, _Handle(window, message.delivery_tag)))
        self._news.set()

    async def _count(self) -> tuple[int, int]:
        """Letters that nobody holds, and consumers."""
        assert self._asking is not None
        try:
            queue = await self._asking.declare_queue(QUARANTINE, passive=True)
        except ChannelNotFoundEntity:
            raise ConfigurationError(
                f"there is no queue {QUARANTINE!r} here: workers declare it when they start"
            ) from None
        result = queue.declaration_result
        return result.message_count or 0, result.consumer_count or 0

    async def _returned(self, count: int) -> None:
        """Wait until the letters of a window are back: those of the next one have to follow them."""
        for _ in range(_RETURN_TRIES):
            if (await self._count())[0] >= count:
                return
            await asyncio.sleep(_RETURN_SECONDS)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """A plain connection for an operator's tool: what is lost is told, not repaired.

    Raises:
        Unavailable: the broker cannot be reached, or the connection was lost.
    """
    tolerate_any_property()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it shows whole messages; we say what matters
    try:
        connection = await aio_pika.connect(named(url, "streams-dlq"), timeout=10)
    except (AMQPError, OSError, TimeoutError) as error:
        raise Unavailable(f"RabbitMQ cannot be reached: {reason(error)}") from error
    try:
        async with connection:
            yield connection
    except (AMQPError, OSError, RuntimeError) as error:
        raise Unavailable(
            f"the connection to RabbitMQ was lost ({type(error).__name__}); no letter is lost by that"
        ) from error
