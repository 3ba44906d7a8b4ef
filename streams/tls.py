"""TLS on the links to RabbitMQ, PostgreSQL and Redis: the URL asks for it, and then it is verified.

Nothing here falls back to plaintext, and nothing switches verification off: the certificate must be signed
by an authority that we trust, be valid today, and name the host in the URL. A URL carries all that its
client needs, so that whoever is handed one connects as the settings demand.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files: the authorities (None: those that the system trusts), and our own certificate."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server's client spells TLS in its URL."""

    variable: str
    schemes: tuple[str, ...]
    ca: str
    certificate: str
    key: str
    secure: str
    """What a URL with TLS looks like, for messages."""
    allowed: tuple[str, ...] = ()
    """Further parameters that start with `ssl`; others would weaken what we verify, or be ignored."""

    def is_secure(self, parts: SplitResult) -> bool:
        if self is POSTGRES:
            return dict(parse_qsl(parts.query)).get("sslmode", "disable") != "disable"
        return parts.scheme in ("amqps", "rediss")

    def files(self, parts: SplitResult) -> Files:
        """The PEM files that a URL names."""
        query = dict(parse_qsl(parts.query))
        return Files(query.get(self.ca), query.get(self.certificate), query.get(self.key))


AMQP: Final = Dialect("AMQP_URL", ("amqp", "amqps"), "cafile", "certfile", "keyfile", "amqps://")
POSTGRES: Final = Dialect(
    "DATABASE_URL",
    ("postgresql", "postgres"),
    "sslrootcert",
    "sslcert",
    "sslkey",
    "?sslmode=verify-full",
    ("sslmode", "sslnegotiation"),
)
REDIS: Final = Dialect(
    "REDIS_URL", ("redis", "rediss", "unix"), "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "rediss://"
)

_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_VERIFIES: Final = {
    "ssl_cert_reqs": ("required", "cert_required"),
    "ssl_check_hostname": ("true", "yes", "1"),
    "no_verify_ssl": ("0",),
}


def secured(url: str, dialect: Dialect, files: Files, *, demanded: bool) -> str:
    """The URL, with the settings' PEM files where it asks for TLS and names none itself.

    Args:
        demanded: refuse a URL that leaves this machine in plaintext.

    Raises:
        ConfigurationError: it cannot be read, weakens the verification, or is plaintext where it must not be.
            Names the variable and the remedy, and repeats nothing that may be a secret.
    """
    parts = check(url, dialect)
    if not dialect.is_secure(parts):
        if demanded and not all(map(is_loopback, hosts(parts))):
            raise ConfigurationError(
                f"{dialect.variable} is plaintext to another host: use {dialect.secure}, or accept it with "
                "STREAMS_ALLOW_PLAINTEXT=1"
            )
        return url
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if files.ca:
        query.setdefault(dialect.ca, files.ca)
    if files.certificate and dialect.certificate not in query:
        query |= {dialect.certificate: files.certificate, dialect.key: files.key or files.certificate}
    # The clients do not agree on `+` for a space.
    return urlunsplit(parts._replace(query=urlencode(query).replace("+", "%20")))


def check(url: str, dialect: Dialect) -> SplitResult:
    """A URL in its parts.

    Raises:
        ConfigurationError: it cannot be read, or speaks of TLS in a way that we do not honour.
    """
    parts, name = urlsplit(url), dialect.variable
    if parts.scheme not in dialect.schemes:
        raise ConfigurationError(f"{name} must start with {' or '.join(f'{s}://' for s in dialect.schemes)}")
    # An unescaped / ? or # in a password ends the host: what follows would be taken for path or port, and
    # shown in somebody's error message.
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.fragment or not _has_ports(parts):
        raise ConfigurationError(
            f"{name} cannot be read: write special characters of user and password as %XX (/ is %2F)"
        )
    query = parse_qsl(parts.query, keep_blank_values=True)
    for parameter, value in query:
        _check_parameter(parameter, value, dialect)
    files = dialect.files(parts)
    if not dialect.is_secure(parts) and any((files.ca, files.certificate, files.key)):
        raise ConfigurationError(f"{name} names certificates but does not ask for TLS: use {dialect.secure}")
    return parts


def _check_parameter(parameter: str, value: str, dialect: Dialect) -> None:
    name = dialect.variable
    if parameter in _VERIFIES:
        if value.lower() not in _VERIFIES[parameter]:
            raise ConfigurationError(
                f"{name} must not switch off the check of certificates: drop {parameter}"
            )
    elif parameter == "sslmode":
        if value not in _MODES:
            raise ConfigurationError(f"{name}: sslmode must be one of {', '.join(_MODES)}")
    elif parameter.startswith("ssl") and parameter not in (
        dialect.ca, dialect.certificate, dialect.key, *dialect.allowed,
    ):  # fmt: skip
        raise ConfigurationError(f"{name}: {parameter} is not supported: drop it")


def _has_ports(parts: SplitResult) -> bool:
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
        if port and not (port.isascii() and port.isdecimal() and int(port) < 65_536):
            return False
    return True


def hosts(parts: SplitResult) -> Iterator[str]:
    """The hosts that a URL names; a path for a Unix socket, the empty text where it leaves the host out."""
    if parts.scheme == "unix":
        yield "/"
        return
    named = [parts.netloc.rpartition("@")[2], *(v for k, v in parse_qsl(parts.query) if k == "host")]
    for host in ",".join(named).split(","):
        plain = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        yield unquote(plain)


def is_loopback(host: str) -> bool:
    """Whether what goes to this host stays on this machine."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def context(files: Files) -> ssl.SSLContext:
    """A context that verifies certificate and host name; with a CA file, that authority alone is trusted.

    Raises:
        ConfigurationError: a file cannot be read or is none of what it should be.
    """
    for path in (files.ca, files.certificate, files.key):
        if path and not os.access(path, os.R_OK):
            raise ConfigurationError(f"the TLS file {path} cannot be read")
    try:
        made = ssl.create_default_context(cafile=files.ca)
        if files.certificate:
            made.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        names = ", ".join(path for path in (files.ca, files.certificate, files.key) if path)
        raise ConfigurationError(f"the TLS files {names} are not usable PEM files") from error
    return made


def context_for(url: str, dialect: Dialect) -> ssl.SSLContext | None:
    """What a URL asks for: a verifying context, or None for plaintext.

    Raises:
        ConfigurationError: as `check` and `context`.
    """
    parts = check(url, dialect)
    return context(dialect.files(parts)) if dialect.is_secure(parts) else None
