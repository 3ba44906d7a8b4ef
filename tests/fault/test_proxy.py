"""The proxy makes links bad as told, and good again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from tests.fault.proxy import Link, Proxy, Tapped, Way
from tests.fault.taps import CutAfterCommit
from tests.support import eventually

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """Gives the test the server's end of each connection."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[Ends] = asyncio.Queue()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.ends.put((reader, writer))


@asynccontextmanager
async def proxied(tap: object = None) -> AsyncIterator[tuple[Proxy, Server]]:
    server = Server()
    listening = await asyncio.start_server(server.take, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        async with Proxy(f"amqp://user:secret@127.0.0.1:{port}/vhost?x=1", tap) as proxy:  # type: ignore[arg-type]
            yield proxy, server
        while not server.ends.empty():
            await closed(server.ends.get_nowait())


@asynccontextmanager
async def linked(proxy: Proxy, server: Server) -> AsyncIterator[tuple[Ends, Ends]]:
    """Both ends of a new connection through the proxy."""
    near = await asyncio.open_connection("127.0.0.1", proxy.port)
    far = await asyncio.wait_for(server.ends.get(), 10)
    try:
        yield near, far
    finally:
        await closed(near)
        await closed(far)


async def closed(end: Ends) -> None:
    end[1].close()
    with suppress(OSError):
        await end[1].wait_closed()


async def told(near: Ends, far: Ends, data: bytes) -> float:
    """Send through, see it arrive whole; the seconds that took."""
    clock = asyncio.get_running_loop().time
    start = clock()
    near[1].write(data)
    assert await asyncio.wait_for(far[0].readexactly(len(data)), 30) == data
    return clock() - start


async def silent(end: Ends) -> bool:
    """Nothing can be read, and its connection is not closed either."""
    try:
        await asyncio.wait_for(end[0].read(1), 0.1)
    except TimeoutError:
        return True
    return False


async def test_a_good_link_passes_everything_and_its_end() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        assert proxy.url == f"amqp://user:secret@127.0.0.1:{proxy.port}/vhost?x=1"
        await told(near, far, bytes(range(256)) * 10_000)
        await told(far, near, b"answer")
        near[1].write_eof()
        assert await far[0].read() == b""
        await told(far, near, b"and the other half still speaks")
        far[1].close()
        assert await near[0].read() == b""
        await eventually(lambda: not proxy.links, "both ends are closed")
    assert proxy.accepted == 1


async def test_latency_delays_and_does_not_narrow() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        proxy.up.latency = 0.2
        assert await told(near, far, b"x") >= 0.2
        assert 0.2 <= await told(near, far, b"x" * 2_000_000) < 2, "some thirty chunks are late together"


async def test_bandwidth() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        proxy.set(rate=100_000)
        assert await told(near, far, b"x" * 50_000) >= 0.49
        assert await told(far, near, b"x" * 20_000) >= 0.19


async def test_slices() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        proxy.down.slice, proxy.down.pause = 2, 0.02
        far[1].write(b"0123456789")
        assert await near[0].read(100) == b"01"
        assert await near[0].readexactly(8) == b"23456789"


async def test_a_black_hole_holds_and_gives_everything_back() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        proxy.hold()
        near[1].write(b"one")
        far[1].write(b"two")
        assert await silent(near)
        assert await silent(far)
        late = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await silent(late)
        await closed(late)
        assert server.ends.empty(), "a connection is made, and the server hears nothing of it"
        proxy.heal()
        assert await far[0].readexactly(3) == b"one"
        assert await near[0].readexactly(3) == b"two"


async def test_reset_is_seen_by_both_ends() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        await told(near, far, b"x")
        assert proxy.reset() == 1
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                await end[0].read()


async def test_half_open_swallows_what_the_client_sends() -> None:
    async with proxied() as (proxy, server), linked(proxy, server) as (near, far):
        await told(near, far, b"x")
        assert proxy.half_open() == 1
        with pytest.raises(ConnectionResetError):
            await far[0].read()
        for _ in range(10):
            near[1].write(b"x" * 100_000)
            await asyncio.wait_for(near[1].drain(), 10)
        assert await silent(near)
        async with linked(proxy, server) as (second, other):
            await told(second, other, b"new connections are good")
        near[1].close()
        await eventually(lambda: not proxy.links, "nothing is left")


async def test_refused_and_accepted_again_on_the_same_port() -> None:
    async with proxied() as (proxy, server):
        port = proxy.port
        async with linked(proxy, server) as (near, far):
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await told(near, far, b"what is open stays")
        await proxy.accept()
        async with linked(proxy, server) as (near, far):
            await told(near, far, b"x")
        assert proxy.port == port


async def test_a_tap_sees_both_ways_and_cuts() -> None:
    seen: list[tuple[Way, bytes]] = []

    def tap(link: Link, way: Way, data: bytes) -> Tapped:
        seen.append((way, data))
        return Tapped.RESET if data == b"cut" else Tapped.PASS

    async with proxied(tap) as (proxy, server), linked(proxy, server) as (near, far):
        await told(near, far, b"up")
        await told(far, near, b"down")
        near[1].write(b"cut")
        with pytest.raises(ConnectionResetError):
            await near[0].read()
        with pytest.raises(ConnectionResetError):
            await far[0].read()
    assert seen == [(Way.UP, b"up"), (Way.DOWN, b"down"), (Way.UP, b"cut")]


async def test_a_commit_whose_answer_is_lost_has_taken_effect(database_url: str) -> None:
    tap = CutAfterCommit()
    async with Proxy(database_url, tap) as proxy:
        connection = await asyncpg.connect(proxy.url, ssl=False)
        await connection.execute("CREATE TABLE noted (n int)")
        tap.armed = 1
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, asyncpg.InterfaceError)):
            async with connection.transaction():
                await connection.execute("INSERT INTO noted VALUES (1)")
        assert tap.cut == 1
        again = await asyncpg.connect(proxy.url, ssl=False)
        assert await again.fetchval("SELECT n FROM noted") == 1
        await again.close()
