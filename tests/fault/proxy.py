"""A TCP proxy that makes a link bad while a test runs: slow, narrow, sliced, silent, half-open, reset.

    async with Proxy(servers.database) as proxy:
        settings = settings_for(replace(servers, database=proxy.url))
        ...
        proxy.up.latency = 0.05     # client to server; `down` is server to client
        proxy.hold()                # a black hole: nothing passes, nothing is closed
        proxy.heal()                # what was held goes on; nothing was lost or reordered
        proxy.reset()               # RST to both ends of every connection

It lives on the event loop that started it and knows no protocol. `tap` sees each chunk and may cut the link
there, for faults that depend on what is said (tests/fault/taps.py has one for commits).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK: Final = 65_536
_IN_FLIGHT: Final = 64  # chunks that a slow link holds for each direction; more makes the sender wait
_DEFAULT_PORTS: Final = {"amqp": 5672, "amqps": 5671, "postgresql": 5432, "redis": 6379, "rediss": 6379}


class Way(Enum):
    """The direction of a chunk."""

    UP = "client to server"
    DOWN = "server to client"


class Tapped(Enum):
    """What a tap wants done with the chunk that it saw."""

    PASS = "pass"
    RESET = "drop it and reset the connection"


Tap = Callable[["Link", Way, bytes], Tapped]


@dataclass(slots=True)
class Conditions:
    """How one direction of all connections behaves; may be changed at any time, for chunks to come."""

    latency: float = 0.0
    """Seconds that each chunk is late. It does not narrow the link: chunks are late together."""
    rate: float = 0.0
    """Bytes per second for each connection; 0 is unlimited."""
    slice: int = 0
    """Bytes per packet; 0 leaves chunks as they come."""
    pause: float = 0.0
    """Seconds between two packets of a sliced chunk."""
    held: bool = False
    """Nothing passes."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects each client to the server of `url`.

    Args:
        url: of the server; `Proxy.url` is the same through the proxy.
        tap: called with each chunk before it is passed on.
    """

    def __init__(self, url: str, tap: Tap | None = None) -> None:
        parts = urlsplit(url)
        self._original = url
        self._target = (parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORTS[parts.scheme])
        self.tap = tap
        self.up = Conditions()
        self.down = Conditions()
        self.links: set[Link] = set()
        """The connections that are open now."""
        self.accepted = 0
        """Connections that clients have made so far."""
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._closed = False

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The server's URL, by way of the proxy."""
        parts = urlsplit(self._original)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}{'@' if user else ''}127.0.0.1:{self._port}"))

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        self.refuse()
        self.reset()
        await asyncio.gather(*(link.closed.wait() for link in list(self.links)))

    def set(self, **conditions: float | bool) -> None:
        """The same conditions for both directions."""
        for name, value in conditions.items():
            setattr(self.up, name, value)
            setattr(self.down, name, value)
        self._tell()

    def hold(self) -> None:
        """A black hole: connections stay open, also new ones, and nothing passes until `heal`."""
        self.set(held=True)

    def heal(self) -> None:
        """A good link again. What was held or late goes on; half-open connections stay dead."""
        self.up = Conditions()
        self.down = Conditions()
        self._tell()

    def reset(self) -> int:
        """RST to both ends of every open connection; how many there were."""
        links = list(self.links)
        for link in links:
            link.reset()
        return len(links)

    def half_open(self) -> int:
        """The server sees every connection reset; clients see nothing, and are never answered again."""
        links = list(self.links)
        for link in links:
            link.forget_server()
        return len(links)

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def accept(self) -> None:
        """Accept connections (again), always on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._connected, "127.0.0.1", self._port, limit=_CHUNK, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def conditions(self, way: Way) -> Conditions:
        return self.up if way is Way.UP else self.down

    async def changed(self) -> None:
        """Wait until conditions are changed."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            _abort(writer)
            return
        self.accepted += 1
        link = Link(self, reader, writer)
        self.links.add(link)
        try:
            await link.run(self._target)
        finally:
            self.links.discard(link)


@dataclass(eq=False, slots=True)
class Link:
    """One client's connection and its twin to the server."""

    proxy: Proxy
    client_reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    notes: dict[str, object] = field(default_factory=dict)
    """For taps: what they must remember of this connection."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _forgotten: bool = False
    _task: asyncio.Task[None] | None = None

    async def run(self, target: tuple[str, int]) -> None:
        """Pump both ways until both ends are closed."""
        self._task = asyncio.current_task()
        try:
            while self.proxy.up.held:  # a black hole does not answer, either, that nobody listens behind it
                await self.proxy.changed()
            reader, self.server = await asyncio.open_connection(*target, limit=_CHUNK)
            for writer in (self.client, self.server):
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(Way.UP, self.client_reader, self.server))
                pumps.create_task(self._pump(Way.DOWN, reader, self.client))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # one end is gone or we were reset: the other is told below
        finally:
            for end in (self.client, self.server):
                _abort(end)
            self.closed.set()

    def reset(self) -> None:
        """RST to both ends."""
        for end in (self.client, self.server):
            _abort(end)
        if self._task is not None:
            self._task.cancel()

    def forget_server(self) -> None:
        """Reset the server's end; what the client goes on to send is swallowed."""
        self._forgotten = True
        _abort(self.server)

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(way, reader, line))
            both.create_task(self._give(way, line, writer))

    async def _take(
        self, way: Way, reader: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        """Read what comes; b"" at its end."""
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                if not self._forgotten:
                    raise
                data = b""
            await line.put((clock() + self.proxy.conditions(way).latency, data))

    async def _give(
        self, way: Way, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        """Pass on what was read, as the conditions allow."""
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - clock()))
            while self.proxy.conditions(way).held:
                await self.proxy.changed()
            if not data:
                await self._end(way, writer)
                return
            if self.proxy.tap is not None and self.proxy.tap(self, way, data) is Tapped.RESET:
                raise ConnectionResetError("cut by a tap")
            try:
                await self._write(way, data, writer)
            except OSError:
                if not self._forgotten:
                    raise

    async def _end(self, way: Way, writer: asyncio.StreamWriter) -> None:
        """One end sends no more."""
        if not self._forgotten:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()
        elif way is Way.UP:
            raise ConnectionResetError("the client of a half-open connection left, too")

    async def _write(self, way: Way, data: bytes, writer: asyncio.StreamWriter) -> None:
        position = 0
        while position < len(data) and not self._forgotten:
            now = self.proxy.conditions(way)
            size = now.slice or (max(1, int(now.rate / 50)) if now.rate else len(data))
            packet = data[position : position + size]
            position += len(packet)
            await asyncio.sleep(len(packet) / now.rate if now.rate else 0.0)
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(now.pause if now.slice and position < len(data) else 0.0)
            while now.held:
                await self.proxy.changed()
                now = self.proxy.conditions(way)


def _abort(end: asyncio.StreamWriter | None) -> None:
    """Close with RST instead of FIN."""
    if end is None or end.transport.is_closing():
        return
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()
