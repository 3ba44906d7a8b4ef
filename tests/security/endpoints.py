"""Servers for the first second of a connection: with a certificate of any kind, or without TLS; they keep
what they were sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.security.secured import Certificates

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass
class Endpoint:
    port: int = 0
    received: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def listening(
    link: str, certificates: Certificates | None, *, ask: bool = False
) -> AsyncIterator[Endpoint]:
    """One that offers TLS with this certificate, or refuses TLS in the manner of the link's server.

    Args:
        ask: for a client's certificate, too.
    """
    endpoint = Endpoint()
    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates.certificate, certificates.key)
        if ask:
            context.load_verify_locations(certificates.ca)
            context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if link == "postgresql":
                assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                writer.write(b"N" if context is None else b"S")
                if context is not None:
                    await writer.start_tls(context)
            elif context is not None:
                await writer.start_tls(context)
            while data := await reader.read(4096):
                endpoint.received += data
                writer.write({"amqp": b"AMQP\0\0\x09\x01", "redis": b"-ERR what\r\n"}.get(link, b""))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    async with server:
        yield endpoint
