"""The embedded HTTP server bounds what a client may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from granian.constants import Interfaces

from streams.health import free_port
from streams.http import HEADER_BYTES, embedded
from streams.settings import Settings
from tests.support import eventually


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[int]:
    port = free_port("127.0.0.1")
    server = embedded(_app, "127.0.0.1", port, Interfaces.ASGINL, **options)
    task = asyncio.create_task(server.serve())

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"
        except httpx.HTTPError:
            return False

    try:
        await eventually(answers, "the server answers")
        yield port
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await task


async def test_a_client_that_dawdles_over_its_request_is_cut_off() -> None:
    async with serving(header_seconds=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        await asyncio.wait_for(reader.read(), 5)  # ends only with the connection
        writer.close()


async def test_a_head_without_end_is_refused() -> None:
    async with serving() as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/"
        assert (await client.get(url, headers={"x": "y" * (HEADER_BYTES // 2)})).status_code == 200
        try:
            refused = (await client.get(url, headers={"x": "y" * (HEADER_BYTES * 2)})).status_code >= 400
        except httpx.TransportError:
            refused = True
        assert refused


async def test_http_2_is_not_spoken() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_it_listens_on_loopback_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMS_HTTP_HOST", raising=False)
    assert Settings.load().http_host == "127.0.0.1"
