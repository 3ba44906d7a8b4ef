"""The HTTP server that processes embed: Granian, with bounds on what a client may take."""

from __future__ import annotations

from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

HEADER_SECONDS: Final = 60.0
HEADER_BYTES: Final = 64 * 1024


def embedded(
    app: Any, host: str, port: int, interface: Interfaces, *, header_seconds: float = HEADER_SECONDS
) -> Server:
    """A server inside our own event loop; HTTP/1.1 only, since nobody here needs more.

    Args:
        header_seconds: how long a client may take to send a request's head; then it is cut off. A kept
            connection that is idle this long, too: less than clients keep theirs would cost them requests.
    """
    return Server(
        app,
        address=host,
        port=port,
        interface=interface,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(header_seconds * 1000), max_buffer_size=HEADER_BYTES
        ),
        websockets=False,
        log_enabled=False,
    )
