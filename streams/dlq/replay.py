"""Takes letters out of quarantine: back to where they came from, or away.

A letter is replayed as the message that its producer sent, and acknowledged only once the broker has
confirmed it. Whoever is killed in between leaves the letter in place; the next replay sends it again, and
de-duplication by (source, id) sees to it that the event has one effect. A letter that lies in the queue
twice is one letter: it is sent once, and both copies go.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, DeliveryMode
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError

from schemas.errors import StreamsError, Unavailable
from streams.decode import STRUCTURED
from streams.dlq.browse import Browser, Held, Interrupted
from streams.dlq.letter import Letter, replay_headers, route
from streams.dlq.select import Selection

_IN_FLIGHT: Final = 50
_CONFIRM_SECONDS: Final = 30.0
_LARGEST_WINDOW: Final = 500
_HELD_SECONDS: Final = 60.0  # that a letter waits for its turn at a low rate; the broker allows 30 minutes


@dataclass(slots=True)
class Outcome:
    """What was done, or would be."""

    done: Counter[str] = field(default_factory=Counter)
    """Letters by reason."""
    failed: Counter[str] = field(default_factory=Counter)
    """Letters that stay in quarantine, by what stood in the way."""
    returned: int = 0
    """Letters that were refused again while this ran; they lie in quarantine, too."""

    @property
    def total(self) -> int:
        return self.done.total()


Progress = Callable[[Outcome], None]


class _Stays(StreamsError):
    """This letter cannot be replayed now; it stays where it is."""


class Replayer:
    """Replays letters; `outcome` tells at any time how far it got.

    Args:
        rate: letters per second, at most; None: as fast as the broker confirms.
        limit: letters, at most.
        progress: called after each letter.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        selection: Selection,
        *,
        rate: float | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._connection = connection
        self._selection = selection
        self._rate = rate
        self._limit = limit
        self._progress = progress or (lambda _: None)
        self._sender = _Sender(connection)
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._sent: dict[UUID, int] = {}
        self._stayed: set[UUID] = set()
        self._begun = 0
        self._due = 0.0
        self._trouble: Exception | None = None
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Replay what is meant. Whatever ends it, no letter is lost.

        Raises:
            Unavailable: the broker is away, or hands out no letters.
        """
        async with self._sender:
            while True:
                before = self.outcome.total
                try:
                    await self._pass()
                except Interrupted:
                    # At a low rate the letters that are passed over may be held for too long: begin anew.
                    if self.outcome.total == before:
                        raise
                else:
                    return self.outcome

    async def _pass(self) -> None:
        window = _LARGEST_WINDOW if self._rate is None else int(self._rate * _HELD_SECONDS)
        largest = max(1, min(window, _LARGEST_WINDOW))
        async with Browser(self._connection, self._selection, bodies=True, largest_window=largest) as browser:
            try:
                async for held in browser.letters():
                    if self._limit is not None and self._begun >= self._limit:
                        break
                    if held.is_meant:
                        await self._handle(held)
                    if self._trouble is not None:
                        break
                await asyncio.gather(*self._in_flight.values())
            finally:
                for task in self._in_flight.values():
                    task.cancel()
                await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        if self._trouble is not None:
            why = f"{type(self._trouble).__name__} {self._trouble}".strip()[:200]
            raise Unavailable(f"the broker did not confirm; the letter stays: {why}")

    async def _handle(self, held: Held) -> None:
        letter = held.letter
        while rivals := {self._in_flight[key] for key in _keys(letter) if key in self._in_flight}:
            await asyncio.wait(rivals)
        if letter.id in self._stayed:
            return
        if (replays := self._sent.get(letter.id)) is None:
            await self._begin(held)
        elif letter.replays < replays:
            await held.take_out()  # the same letter once more
        else:
            self.outcome.returned += 1

    async def _begin(self, held: Held) -> None:
        self._begun += 1
        loop = asyncio.get_running_loop()
        if self._rate is not None:
            self._due = max(self._due, loop.time()) + 1 / self._rate
            await asyncio.sleep(self._due - 1 / self._rate - loop.time())
        await self._slots.acquire()
        task = loop.create_task(self._replay(held))
        self._in_flight |= dict.fromkeys(_keys(held.letter), task)

    async def _replay(self, held: Held) -> None:
        letter = held.letter
        try:
            await self._sender.send(letter)
            self._sent[letter.id] = letter.replays + 1
            self.outcome.done[letter.reason] += 1
            await held.take_out()
        except _Stays as why:
            self._stayed.add(letter.id)
            self.outcome.failed[str(why)] += 1
        except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
            self._trouble = error
        finally:
            for key in _keys(letter):
                self._in_flight.pop(key, None)
            self._slots.release()
        self._progress(self.outcome)


def _keys(letter: Letter) -> tuple[str, str]:
    """What no other letter in flight may share: its id, since a copy of it waits for the outcome; and its
    message id, by which the library tells what the broker returned."""
    return f"letter {letter.id}", f"message {message_id_of(letter)}"


class _Sender:
    """Publishes letters to where they came from, with confirms."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, asyncio.Task[AbstractExchange | None]] = {}

    async def __aenter__(self) -> None:
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)

    async def __aexit__(self, *_: object) -> None:
        if self._channel is not None and not self._connection.is_closed:
            await self._channel.close()

    async def send(self, letter: Letter) -> None:
        """Publish and wait for the confirm.

        Raises:
            _Stays: it cannot go there.
            AMQPError, OSError, TimeoutError, RuntimeError: not confirmed; it may have arrived.
        """
        try:
            exchange, routing_key = route(letter)
        except ValueError as error:
            raise _Stays(str(error)) from None
        target = await self._exchange(exchange)
        if target is None:
            raise _Stays(f"there is no exchange {exchange!r} any more")
        try:
            await target.publish(message_of(letter), routing_key, mandatory=True, timeout=_CONFIRM_SECONDS)
        except DeliveryError:
            raise _Stays(f"no queue takes it on exchange {exchange!r}") from None

    async def _exchange(self, name: str) -> AbstractExchange | None:
        """The exchange, None if there is none: publishing to that would close the channel."""
        if name not in self._exchanges:
            self._exchanges[name] = asyncio.create_task(self._look_up(name))
        return await asyncio.shield(self._exchanges[name])

    async def _look_up(self, name: str) -> AbstractExchange | None:
        assert self._channel is not None
        if name == "":
            return self._channel.default_exchange
        trial = await self._connection.channel(publisher_confirms=False)
        try:
            await trial.get_exchange(name, ensure=True)
        except ChannelNotFoundEntity:
            return None
        finally:
            await trial.close()
        return await self._channel.get_exchange(name, ensure=False)


def message_id_of(letter: Letter) -> str:
    """The original's id; for an element of an array its own. A message without any goes by the letter's:
    it is the same each time, where the library would invent a new one."""
    found = letter.event_id if letter.is_element else letter.properties.get("message_id")
    return str(found or letter.id)


def message_of(letter: Letter) -> aio_pika.Message:
    """The message that a producer sent, once more. An element of an array is a structured event of its own.

    Two properties are left out: a time to live that has run out already, and a user id, which the broker
    holds against whoever is connected.
    """
    original = letter.properties
    element = letter.is_element
    return aio_pika.Message(
        letter.body,
        content_type=STRUCTURED if element else original.get("content_type"),
        content_encoding=original.get("content_encoding"),
        message_id=message_id_of(letter),
        type=letter.type or None if element else original.get("type"),
        app_id=original.get("app_id"),
        timestamp=original.get("timestamp"),
        correlation_id=original.get("correlation_id"),
        reply_to=original.get("reply_to"),
        priority=original.get("priority"),
        headers=replay_headers(letter),
        delivery_mode=DeliveryMode.PERSISTENT,
    )


async def drop(
    connection: AbstractConnection,
    selection: Selection,
    *,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Remove letters for good (`dry_run`: count those that `drop`, or a replay, would take)."""
    outcome, dropped = Outcome(), set[UUID]()
    async with Browser(connection, selection) as browser:
        async for held in browser.letters():
            letter = held.letter
            is_twin = letter.id in dropped
            if not is_twin and (not held.is_meant or (limit is not None and outcome.total >= limit)):
                continue
            if not dry_run:
                await held.take_out()
            if not is_twin:
                dropped.add(letter.id)
                outcome.done[letter.reason] += 1
                if progress is not None:
                    progress(outcome)
    return outcome
