"""A client of RabbitMQ's management API."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from schemas.errors import ConfigurationError
from streams import tls

_PORTS: Final = {"http": 15672, "https": 15671}

HELP: Final = "set STREAMS_MANAGEMENT_URL, as in https://streams-monitor:password@broker:15671"


def management_client(url: str, *, ca: str | None, seconds: float) -> httpx.AsyncClient:
    """A client whose paths start with /api; the caller closes it.

    Args:
        url: base of the API with user and password; without a port RabbitMQ's own is taken.
        ca: PEM file of who signs an https:// certificate; None: whom the system trusts.
        seconds: for each request.

    Raises:
        ConfigurationError: the URL is none. Repeats nothing of it.
    """
    wrong = ConfigurationError(f"the management API's URL cannot be read: {HELP}")
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise wrong from None
    if not (host := parts.hostname):
        raise wrong
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return httpx.AsyncClient(
        base_url=urlunsplit((parts.scheme, netloc, parts.path, "", "")),
        auth=(unquote(parts.username or ""), unquote(parts.password or "")),
        verify=tls.context(tls.Files(ca=ca)) if parts.scheme == "https" else True,
        timeout=seconds,
    )
