"""Where the broker is and how to log in there, out of an AMQP URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, unquote

from schemas.errors import ConfigurationError
from streams.tls import AMQP, check, context_for

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
HEARTBEAT: Final = 10
"""Seconds; a broker that is silent for twice as long is taken for dead."""


@dataclass(frozen=True, slots=True)
class Address:
    """A broker, a virtual host and credentials. The password shows in no repr."""

    host: str
    port: int
    virtual_host: str
    user: str
    password: str = field(repr=False)
    heartbeat: int = HEARTBEAT
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    external: bool = False
    """Log in by the client certificate (SASL EXTERNAL) instead of name and password."""

    @classmethod
    def parse(cls, url: str, context: ssl.SSLContext | None = None) -> Self:
        """Read `amqp[s]://user:password@host:port/vhost?heartbeat=..&cafile=..&certfile=..&keyfile=..`.

        amqps:// verifies certificate and host name, against `cafile` or the system's authorities.

        Args:
            context: used for amqps:// instead of what the URL says of certificates.

        Raises:
            ConfigurationError: it is no such URL. The message does not repeat it.
        """
        parts = check(url, AMQP)
        query = dict(parse_qsl(parts.query))
        try:
            heartbeat = int(query.get("heartbeat", HEARTBEAT))
        except ValueError:
            raise ConfigurationError("the heartbeat in the AMQP URL must be a number of seconds") from None
        if not 0 <= heartbeat < 65_536:
            raise ConfigurationError("the heartbeat in the AMQP URL must be 0 to 65535 seconds")
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or _PORTS[parts.scheme],
            virtual_host=unquote(parts.path[1:]) or "/",
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            heartbeat=heartbeat,
            tls=context or context_for(url, AMQP) if AMQP.is_secure(parts) else None,
            external=query.get("auth", "plain").lower() == "external",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
