"""Where the broker is and how to log in there, out of an AMQP URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from schemas.errors import ConfigurationError

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

        amqps:// verifies certificate and host name, against the system's authorities or `cafile`.

        Args:
            context: used for amqps:// instead of what the URL says of certificates.

        Raises:
            ConfigurationError: it is no such URL. The message does not repeat it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            heartbeat = int(query.get("heartbeat", HEARTBEAT))
        except ValueError:
            raise ConfigurationError("the AMQP URL has a port or a heartbeat that is no number") from None
        if parts.scheme not in _PORTS:
            raise ConfigurationError("an AMQP URL begins with amqp:// or amqps://")
        if not 0 <= heartbeat < 65_536:
            raise ConfigurationError("the heartbeat in the AMQP URL must be 0 to 65535 seconds")
        secure = parts.scheme == "amqps"
        return cls(
            host=parts.hostname or "localhost",
            port=port or _PORTS[parts.scheme],
            virtual_host=unquote(parts.path[1:]) or "/",
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            heartbeat=heartbeat,
            tls=(context or _verifying(query)) if secure else None,
            external=query.get("auth", "plain").lower() == "external",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _verifying(query: dict[str, str]) -> ssl.SSLContext:
    if query.get("no_verify_ssl", "0") != "0" or query.get("verify") == "verify_none":
        raise ConfigurationError(
            "the AMQP URL switches verification off, which this client does not do: name the authority "
            "with ?cafile=, or pass an SSLContext of your own"
        )
    try:
        context = ssl.create_default_context(cafile=query.get("cafile"), capath=query.get("capath"))
        if "certfile" in query:
            context.load_cert_chain(query["certfile"], query.get("keyfile"))
    except OSError as error:
        raise ConfigurationError(f"a certificate that the AMQP URL names cannot be used: {error}") from None
    return context
