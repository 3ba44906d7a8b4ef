"""`streams tail`: watch events as they are published."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

    from streams.watch import Filter, Letter

RETRY_SECONDS: Final = 1.0
PREFETCH: Final = 200
QUEUE_LENGTH: Final = 10_000

Exchanges = Annotated[
    list[str] | None, typer.Argument(metavar="[EXCHANGE]...", help="tasks, votes and agents if not given.")
]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only types like this, as in task.*")]
Key = Annotated[str, typer.Option(help="Only routing keys that this binding takes, as in task.#")]
Source = Annotated[str | None, typer.Option(help="Only events of sources like this; * is any text.")]
Entity = Annotated[str | None, typer.Option(help="Only events with this value in a field of their data.")]
Count = Annotated[int | None, typer.Option(min=1, help="End after so many events.")]
AsNdjson = Annotated[bool, typer.Option("--ndjson", help="Whole events, one a line, as JSON.")]


def tail(
    exchanges: Exchanges = None,
    types: Types = None,
    key: Key = "#",
    source: Source = None,
    entity: Entity = None,
    count: Count = None,
    ndjson: AsNdjson = False,
) -> None:
    """Show what is published to exchanges of AMQP_URL, until Ctrl-C.

    It has a queue of its own that ends with it, and takes nothing from the workers. Where this terminal is
    slower than the producers, the oldest events are left out. `streams tail dead-letters` shows what is
    refused, and why.

    Exit status: 0 ended by Ctrl-C or --count, 2 could not begin.
    """
    from streams.amqp import tolerate_any_property
    from streams.settings import Settings, require
    from streams.watch import Filter

    tolerate_any_property()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what goes wrong is told below, in a line
    url = require(Settings.load().amqp_url, "AMQP_URL")
    wanted = Filter(tuple(types or ()), source, entity)
    watcher = _Watcher(url, exchanges or ["tasks", "votes", "agents"], key, wanted, count, ndjson=ndjson)
    try:
        asyncio.run(watcher.run())
    except BrokenPipeError:
        # Whoever read us has left, as `head` does; nothing is to be said when the interpreter flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Watcher:
    """One run of the command."""

    def __init__(
        self, url: str, exchanges: Sequence[str], key: str, wanted: Filter, count: int | None, *, ndjson: bool
    ) -> None:
        self._url = url
        self._exchanges = exchanges
        self._key = key
        self._wanted = wanted
        self._left = count
        self._ndjson = ndjson

    async def run(self) -> None:
        """Watch until a signal or the count ends it; a lost broker is waited for.

        Raises:
            ConfigurationError: the broker cannot be reached, or an exchange does not exist, at the start.
        """
        from aio_pika.exceptions import AMQPError

        from schemas.errors import ConfigurationError
        from streams.lifecycle import stop_on_signals

        stop = stop_on_signals()
        ended = asyncio.create_task(stop.wait())
        began = False
        while not stop.is_set() and self._left != 0:
            watching = asyncio.create_task(self._watch())
            await asyncio.wait([watching, ended], return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                watching.cancel()
                await asyncio.wait([watching])
                break
            try:
                watching.result()
            except _Lost:
                began = True
                print("streams: the broker is away; waiting for it", file=sys.stderr)
            except BrokenPipeError:
                raise
            except (AMQPError, OSError) as error:
                if not began:
                    raise ConfigurationError(f"cannot watch {', '.join(self._exchanges)}: {error}") from None
            if self._left != 0:
                await asyncio.wait([ended], timeout=RETRY_SECONDS)
        ended.cancel()

    async def _watch(self) -> None:
        """Show events until the count is reached.

        Raises:
            _Lost: the connection ended.
        """
        import aio_pika
        from aio_pika.exceptions import AMQPError

        from streams.publisher import named

        connection = await aio_pika.connect(named(self._url, "streams tail"))
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.declare_queue(
                exclusive=True,
                auto_delete=True,
                arguments={"x-max-length": QUEUE_LENGTH, "x-overflow": "drop-head"},
            )
            for exchange in self._exchanges:
                await queue.bind(exchange, self._key)
            print(f"watching {', '.join(self._exchanges)}; Ctrl-C ends it", file=sys.stderr, flush=True)
            try:
                await self._show(queue)
            except BrokenPipeError:
                raise
            except (AMQPError, OSError) as error:
                raise _Lost from error

    async def _show(self, queue: AbstractQueue) -> None:
        from streams.watch import as_ndjson, as_text, events_of

        width = os.get_terminal_size().columns if sys.stdout.isatty() else None
        async with queue.iterator() as messages:
            async for message in messages:
                for seen in events_of(_letter(message)):
                    if self._left == 0 or not self._wanted.takes(seen):
                        continue
                    print(as_ndjson(seen) if self._ndjson else as_text(seen, width), flush=True)
                    self._left = None if self._left is None else self._left - 1
                await message.ack()
                if self._left == 0:
                    return
        raise ConnectionError("the queue is gone")


class _Lost(Exception):
    """The broker went away after the watching had begun."""


def _letter(message: AbstractIncomingMessage) -> Letter:
    from streams.watch import Letter

    return Letter(
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        body=message.body,
        content_type=message.content_type or "",
        message_id=message.message_id,
        type=message.type,
        app_id=message.app_id,
        timestamp=message.timestamp,
        headers=message.headers,
    )
