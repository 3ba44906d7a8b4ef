"""What a local stack tells its users."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

Service = Literal["postgres", "redis", "rabbitmq"]
SERVICES: tuple[Service, ...] = get_args(Service)

_PASSWORD = re.compile(r"(?<=:)[^:/@]+(?=@)")


class StackError(Exception):
    """The local stack cannot do what was asked; the message says what to do about it."""


class PortTakenError(StackError):
    """Another program took a port between our choice and the server's start."""


@dataclass(frozen=True)
class Hardening:
    """Makes a stack as strict as a production one: TLS on every listener but management's."""

    ca: Path
    """PEM file of the authority that signed `certificate`, and clients' certificates where there are any."""
    certificate: Path
    """PEM file of the servers' certificate, for 127.0.0.1."""
    key: Path
    redis_users: Path | None = None
    """An ACL file like infra/redis/users.acl, with passwords; the stack's own user is added."""


@dataclass(frozen=True, repr=False)
class StackUrls:
    """Where the servers are. The URLs hold passwords, the repr does not."""

    amqp: str
    database: str
    redis: str
    management: str
    """Base of RabbitMQ's HTTP API; its paths start with /api."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{field.name}={self.masked()[field.name]!r}" for field in fields(self))
        return f"{type(self).__name__}({shown})"

    def masked(self) -> dict[str, str]:
        """The URLs by name, without passwords."""
        return {name: _PASSWORD.sub("***", url) for name, url in asdict(self).items()}

    def environment(self) -> dict[str, str]:
        """The variables that the rest of the program reads."""
        return {"AMQP_URL": self.amqp, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


@dataclass(frozen=True)
class ServiceStatus:
    """One server as the process table shows it."""

    name: str
    running: bool
    pid: int | None
    port: int | None


@dataclass(frozen=True)
class StackStatus:
    """A stack as seen from outside."""

    name: str
    folder: Path
    state: Literal["up", "partial", "down"]
    owner: int | None
    """Process that the servers end with; None for a stack that was left running on purpose."""
    services: tuple[ServiceStatus, ...]
    urls: StackUrls | None
