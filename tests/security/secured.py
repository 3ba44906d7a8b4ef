"""A stack as production has it: TLS on every link, and one user per process with that process's rights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import trustme

from streams.database import connect
from streams.declare import declare
from streams.migrations import migrate
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS, Settings
from streams.stack import Hardening, LocalStack
from streams.topology import Topology

INFRA: Final = Path(__file__).resolve().parents[2] / "infra"
HANDLERS: Final = (*DEFAULT_HANDLERS, "tests.security.leaky")
_REDIS_USERS = ("streams-updater", "streams-api", "streams-operator")
_AMQP_USERS = ("topology", "worker", "updater", "api", "producer", "operator", "monitor")


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority and of a certificate that it issued."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def issue(
        cls, folder: Path, host: str, *, days: float = 1, authority: trustme.CA | None = None
    ) -> Certificates:
        authority = authority or trustme.CA()
        issued = authority.issue_cert(host, not_after=datetime.now(UTC) + timedelta(days=days))
        folder.mkdir(parents=True)
        made = cls(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
        authority.cert_pem.write_to_path(made.ca)
        issued.private_key_pem.write_to_path(made.key)
        made.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return made


@dataclass(frozen=True)
class Secured:
    """The running servers and who may use them."""

    stack: LocalStack
    certificates: Certificates
    password: str
    """Everybody's; it begins with `canary`, so that it is found wherever it should not be."""

    def amqp(self, user: str) -> str:
        return self._as(self.stack.urls.amqp, f"streams-{user}")

    def database(self, role: str) -> str:
        return self._as(self.stack.urls.database, role)

    def redis(self, user: str) -> str:
        return self._as(self.stack.urls.redis, f"streams-{user}")

    def _as(self, url: str, user: str) -> str:
        """A URL for another user, without its TLS files: the settings supply them."""
        parts = urlsplit(url)
        query = "sslmode=verify-full" if parts.scheme == "postgresql" else ""
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:{self.password}@{address}", query=query))

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the service has; the URLs are each one's own."""
        return {
            "STREAMS_TLS_CA_FILE": str(self.certificates.ca),
            "STREAMS_PROFILE": "production",
            "STREAMS_HANDLERS": ",".join(HANDLERS),
        }

    def urls(self, process: str) -> dict[str, str]:
        """The URLs that a process is given, each with its own login."""
        urls = {
            "worker": {"AMQP_URL": self.amqp("worker"), "DATABASE_URL": self.database("streams_worker")},
            "updater": {
                "AMQP_URL": self.amqp("updater"),
                "DATABASE_URL": self.database("streams_updater"),
                "REDIS_URL": self.redis("updater"),
            },
            "api": {
                "AMQP_URL": self.amqp("api"),
                "DATABASE_URL": self.database("streams_api"),
                "REDIS_URL": self.redis("api"),
            },
        }
        return urls[process]

    def settings(self, **urls: str) -> Settings:
        """Settings of a client in this process, with the authority's file."""
        return Settings.load(tls_ca_file=self.certificates.ca, handlers=",".join(HANDLERS), **urls)

    async def prepare(self) -> None:
        """What an administrator does once, from the files in infra/."""
        admin = await connect(self.stack.urls.database)
        await admin.execute((INFRA / "postgres" / "logins.sql").read_text())
        for role in ("streams_deployer", "streams_worker", "streams_updater", "streams_api"):
            await admin.execute(f"ALTER ROLE {role} PASSWORD '{self.password}'")
        await admin.close()
        deployer = self.settings(database_url=self.database("streams_deployer")).database_url
        assert deployer is not None
        await migrate(deployer.get_secret_value(), Settings.load().migration_sources)
        await self._prepare_broker()
        topology = self.settings(amqp_url=self.amqp("topology")).amqp_url
        assert topology is not None
        await declare(topology.get_secret_value(), Topology.of(load_subscriptions(HANDLERS)))

    async def _prepare_broker(self) -> None:
        definitions = json.loads((INFRA / "rabbitmq" / "definitions.json").read_text())
        tags = {user["name"]: user["tags"] for user in definitions["users"]}
        async with httpx.AsyncClient(base_url=self.stack.urls.management, timeout=30) as management:
            (await management.post("/api/definitions", json=definitions)).raise_for_status()
            for name in (f"streams-{user}" for user in _AMQP_USERS):
                body = {"password": self.password, "tags": tags[name]}
                (await management.put(f"/api/users/{name}", json=body)).raise_for_status()


def redis_users(folder: Path, password: str) -> Path:
    """infra/redis/users.acl with passwords, as docs/security.md has an operator make it."""
    lines = (INFRA / "redis" / "users.acl").read_text().splitlines()
    for name in _REDIS_USERS:
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"user {name} ")]
        lines[at] += f" >{password}"
    path = folder / "users.acl"
    path.write_text("\n".join(lines))
    return path


def new_stack(folder: Path) -> Secured:
    """A stack of this run, not started yet."""
    password = f"canary{token_hex(12)}"
    certificates = Certificates.issue(folder / "tls", "127.0.0.1")
    hardening = Hardening(
        certificates.ca, certificates.certificate, certificates.key, redis_users(folder, password)
    )
    return Secured(LocalStack("secure", unique=True, hardening=hardening), certificates, password)
