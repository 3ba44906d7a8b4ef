"""A TCP load balancer in front of a cluster: what a Service of Kubernetes or HAProxy is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Final, Self

from streams.stack.ports import LOOPBACK

_CONNECT_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 2.0
_CHUNK: Final = 65_536


class Balancer:
    """Takes connections and gives them to the next server that answers.

    A server answers when it says something to the client's first words: a frozen one takes connections, since
    its kernel does, and is passed over all the same.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._next = count()
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._links.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(_CHUNK)
        begin = next(self._next)
        for offset in range(len(self._ports)) if first else ():
            port = self._ports[(begin + offset) % len(self._ports)]
            there = None
            try:
                there = await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), _CONNECT_SECONDS)
                there[1].write(first)
                answer = await asyncio.wait_for(there[0].read(_CHUNK), _ANSWER_SECONDS)
            except (OSError, TimeoutError):
                answer = b""
            if there is not None and not answer:
                there[1].close()
            if there is not None and answer:
                writer.write(answer)
                await _join(reader, writer, *there)
                return


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there_reader: asyncio.StreamReader,
    there_writer: asyncio.StreamWriter,
) -> None:
    """Pass both directions on until one ends."""
    ways = [
        asyncio.ensure_future(_pump(reader, there_writer)),
        asyncio.ensure_future(_pump(there_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        there_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
