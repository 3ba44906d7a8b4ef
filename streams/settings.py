"""Settings: the only reader of the environment.

`AMQP_URL`, `DATABASE_URL`, `REDIS_URL` and the standard `OTEL_*` variables carry no prefix; everything
else is `STREAMS_<NAME>`. Each of the three URLs may also stand in a file, named by `<NAME>_FILE`, since it
holds a password. Secrets never show in a repr.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.contract import BatchPolicy
from schemas.errors import ConfigurationError
from streams import tls


class Profile(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class TraceOrigin(StrEnum):
    """What a trace context that came with a message is to us."""

    PARENT = "parent"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class PoolProfile:
    """Connection pool and time limits of a profile, as the performance guide gives them (seconds)."""

    max_size: int
    min_size: int
    idle: float
    connect_timeout: float
    statement_timeout: float
    query_timeout: float


_POOLS = {
    Profile.DEVELOPMENT: PoolProfile(5, 2, 30, 5, 10, 30),
    Profile.STAGING: PoolProfile(20, 5, 60, 5, 5, 20),
    Profile.PRODUCTION: PoolProfile(50, 10, 120, 3, 3, 15),
}

_UNPREFIXED = {"AMQP_URL", "DATABASE_URL", "REDIS_URL"}

API_RATE = 50.0
"""Requests a second of a user, as the performance guide has it."""

DEFAULT_HANDLERS = ("handlers.tasks", "handlers.votes", "handlers.agents", "handlers.invalidations")


class Settings(BaseSettings):
    """What a process of ours is told by its environment; validated once, at start."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMS_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    amqp_url: SecretStr | None = Field(None, validation_alias="AMQP_URL")
    """RabbitMQ, amqp:// or amqps://. Without it `demo` and `run` start a private local stack."""
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """PostgreSQL 15 or newer, postgresql://; several hosts are allowed."""
    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    """Redis 7 or Valkey, redis:// or rediss://; a cluster as redis://node:port,node:port?cluster=1."""
    amqp_url_file: Path | None = Field(None, validation_alias="AMQP_URL_FILE")
    """A file that holds AMQP_URL, where that is not set: for platforms that hand secrets over as files."""
    database_url_file: Path | None = Field(None, validation_alias="DATABASE_URL_FILE")
    """The same for DATABASE_URL."""
    redis_url_file: Path | None = Field(None, validation_alias="REDIS_URL_FILE")
    """The same for REDIS_URL."""
    tls_ca_file: Path | None = None
    """PEM file of the authorities that sign the servers' certificates; unset: whom the system trusts."""
    tls_cert_file: Path | None = None
    """PEM file of our own certificate, for servers that ask for one."""
    tls_key_file: Path | None = None
    """PEM file of its key; unset: it stands in the same file."""
    allow_plaintext: bool = False
    """Accept URLs without TLS to other hosts where they are refused: in the production profile, and
    wherever STREAMS_TLS_CA_FILE is set."""

    profile: Profile = Profile.DEVELOPMENT
    """Pool sizes and time limits: development, staging or production."""
    handlers: Annotated[tuple[str, ...], NoDecode] = DEFAULT_HANDLERS
    """Modules whose `stream` is run, separated by commas; they may lie outside this project."""
    migrations: Annotated[tuple[Path, ...], NoDecode] = ()
    """Further folders of SQL migrations, separated by commas, applied after our own."""

    batch_size: int | None = Field(None, ge=1, le=10_000)
    """Events per batch; unset: what each handler asks for."""
    batch_linger_ms: float | None = Field(None, ge=0, le=10_000)
    """Milliseconds the first event of a batch waits for company; unset: what each handler asks for."""
    lanes: int | None = Field(None, ge=1, le=16)
    """Transactions in flight for each queue, no more and no less; unset: what each handler asks for."""
    prefetch: int = Field(5000, ge=1, le=65_535)
    """Messages that the broker hands out for each queue before one is acknowledged."""
    tap: bool = True
    """Parse deliveries straight from the socket's bytes; 0 leaves that to aio-pika, at half the speed."""
    max_decoded_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of message bodies being worked on for each queue; more waits undecoded."""
    max_held_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of all message bodies held by a process; beyond it RabbitMQ is not read until half is done."""

    max_message_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """A larger message is quarantined."""
    max_events_per_message: int = Field(5_000, ge=1)
    """A CloudEvents array with more events is quarantined."""
    max_json_depth: int = Field(32, ge=1, le=100)
    """An event whose payload nests deeper is quarantined."""
    clock_skew_seconds: float = Field(300, ge=0, le=86_400)
    """How far in the future an event may be dated."""
    retention_days: int = Field(365, ge=31, le=36_500)
    """How far in the past; also how long rows are kept."""

    suspect_deliveries: int = Field(3, ge=1)
    """A message delivered more often than this before is tried alone: it may be what kills workers."""
    hold_seconds: float = Field(900, gt=0)
    """How long a message is held while the world needs repair, before it is given back to the broker; at most
    half of RabbitMQ's consumer_timeout (30 minutes)."""
    watchdog_seconds: float = Field(10, gt=0)
    """Time between two comparisons of our consumers with those that RabbitMQ reports."""
    shutdown_seconds: float = Field(20, gt=0)
    """How long a stop may take before what is unfinished is given back to the broker."""
    outbox_grace_seconds: float = Field(1.5, gt=0)
    """Age at which the sweeper takes an outbox row to be left behind."""

    l1_entries: int = Field(10_000, ge=0)
    """Cached values that a process of the read API holds in memory; 0 or without AMQP_URL: none."""
    l1_bytes: int = Field(50_000_000, ge=100_000)
    """Bytes that these may take, about."""
    l1_seconds: float = Field(60, gt=0)
    """How long one is held at most."""
    refresh_rate: float = Field(1000, ge=0, le=100_000)
    """Keys a second that a process of the read API loads again, or ahead, at most; 0: none."""
    read_ahead_seconds: float = Field(30, ge=0, le=3600)
    """How old a task may be to be loaded before anybody has asked for it; 0: none is."""
    cache_stale_seconds: int = Field(600, ge=0)
    """How long a cached value whose time is up may stand in, marked as stale, while PostgreSQL is down."""

    http_host: str = "127.0.0.1"
    """Address that /livez, /readyz, /metrics and the read API listen on."""
    http_port: int = Field(0, ge=0, le=65_535)
    """Port of /livez, /readyz and /metrics (and of the read API); 0 picks a free one and prints it. Under
    `streams run` the read API's: the worker has the next one, the updater the one after that."""
    worker_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """For `doctor` and `top`: where workers serve /metrics, separated by commas; unset, with the two that
    follow: the processes of this machine."""
    updater_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """The same of updaters."""
    api_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """The same of the read API."""
    api_token: SecretStr | None = None
    """For `doctor` and `verify --watch`: a bearer token, to examine the answers of a read API that asks for
    one."""
    management_url: SecretStr | None = None
    """For `doctor` and `top`: RabbitMQ's management API, as in https://monitor:password@broker:15671."""
    warm: bool = True
    """Fill the caches when the read API starts: sessions, active agents, leaderboards. Serving does not wait
    for it."""
    api_open: bool = False
    """Serve the read API without bearer tokens. For development only."""
    api_rate: float | None = Field(None, ge=0, le=10_000_000)
    """Requests a second for each user of the read API, or each address without tokens; 0: no limit.
    Unset: 50, and no limit with STREAMS_API_OPEN."""
    api_workers: int = Field(1, ge=1, le=64)
    """Processes of `streams api` that share its port."""
    api_metrics_port: int = Field(0, ge=0, le=65_535)
    """Port of /metrics of `streams api`, apart from STREAMS_HTTP_PORT; of several processes the first has it,
    the next ones those after it. 0: one process has no such port; several pick free ones and print them."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks of proxies whose X-Forwarded-For is believed, separated by commas."""
    trace_context: TraceOrigin = TraceOrigin.PARENT
    """What a message's trace context is to ours: parent or link. With link, producers cannot choose what
    we sample."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_json: bool = False
    """One JSON object a line instead of readable text."""

    @field_validator(
        "handlers", "migrations", "worker_urls", "updater_urls", "api_urls", "trusted_proxies", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment.

        Raises:
            ConfigurationError: one line for each variable that is wrong; values are not repeated.
        """
        try:
            found = cls(**overrides)  # type: ignore[arg-type]
            return found.model_copy(update=found._secured_urls())
        except ValidationError as error:
            lines = [f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False)]
            raise ConfigurationError("; ".join(lines)) from None

    def _secured_urls(self) -> dict[str, SecretStr]:
        """The URLs with the TLS files in them, so that every client of ours, however it is made, verifies."""
        files = tls.Files(
            *(str(f) if f else None for f in (self.tls_ca_file, self.tls_cert_file, self.tls_key_file))
        )
        if files.key and not files.certificate:
            raise ConfigurationError("STREAMS_TLS_KEY_FILE is set without STREAMS_TLS_CERT_FILE: set both")
        demanded = (self.profile is Profile.PRODUCTION or bool(files.ca)) and not self.allow_plaintext
        urls = {"amqp_url": tls.AMQP, "database_url": tls.POSTGRES, "redis_url": tls.REDIS}
        return {
            name: SecretStr(tls.secured(url, dialect, files, demanded=demanded))
            for name, dialect in urls.items()
            if (url := self._url(name)) is not None
        }

    def _url(self, name: str) -> str | None:
        """A URL from its variable or, where that is not set, from its file."""
        given: SecretStr | None = getattr(self, name)
        path: Path | None = getattr(self, f"{name}_file")
        if given is not None or path is None:
            return None if given is None else given.get_secret_value()
        try:
            url = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{_variable(f'{name}_file')}: the file cannot be read") from error
        if not url:
            raise ConfigurationError(f"{_variable(f'{name}_file')}: the file is empty")
        return url

    @classmethod
    def table(cls) -> list[tuple[str, str, str]]:
        """(variable, default, meaning) of each setting, for the README and the command line's help."""
        rows = []
        for name, field in cls.model_fields.items():
            default = field.default
            if isinstance(default, tuple):
                default = ",".join(str(item) for item in default)
            shown = "" if default is None else str(int(default) if isinstance(default, bool) else default)
            rows.append((_variable(name), shown, " ".join((field.description or "").split())))
        return rows

    @property
    def pool(self) -> PoolProfile:
        return _POOLS[self.profile]

    @property
    def requests_per_second(self) -> float | None:
        """The read API's limit for each client; None for none."""
        if self.api_rate is None:
            return None if self.api_open else API_RATE
        return self.api_rate or None

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)

    @property
    def clock_skew(self) -> timedelta:
        return timedelta(seconds=self.clock_skew_seconds)

    @property
    def migration_sources(self) -> list[Path]:
        """Folders of migrations in the order they are applied."""
        return [Path(str(resources.files("schemas") / "sql")), *self.migrations]

    @property
    def has_servers(self) -> bool:
        """All three URLs are given: nothing is to be started."""
        return bool(self.amqp_url and self.database_url and self.redis_url)

    @property
    def server_urls(self) -> dict[str, str]:
        """The URLs that are given, by their variables: for the environment of child processes."""
        urls = {"AMQP_URL": self.amqp_url, "DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return {name: url.get_secret_value() for name, url in urls.items() if url is not None}

    def batch_policy(self, asked: BatchPolicy) -> BatchPolicy:
        """A handler's policy with the operator's overrides.

        Raises:
            ConfigurationError: prefetch could never fill the batches in flight, so that the size
                trigger would never fire.
        """
        policy = BatchPolicy(
            size=self.batch_size or asked.size,
            linger=asked.linger if self.batch_linger_ms is None else self.batch_linger_ms / 1000,
            bytes=asked.bytes,
            lanes=self.lanes or asked.lanes,
            spare=asked.spare if self.lanes is None else 0,
        )
        if self.prefetch < policy.size * policy.lanes:
            raise ConfigurationError(
                f"STREAMS_PREFETCH={self.prefetch} is below batch size x lanes "
                f"({policy.size} x {policy.lanes}): batches would never fill; "
                f"raise it to {policy.size * policy.lanes} or lower STREAMS_BATCH_SIZE or STREAMS_LANES"
            )
        return policy


def _variable(field: str) -> str:
    name = field.upper()
    return name if name.removesuffix("_FILE") in _UNPREFIXED else f"STREAMS_{name}"


def require(url: SecretStr | None, variable: str) -> str:
    """The secret value of a URL.

    Raises:
        ConfigurationError: it is not set.
    """
    if url is None:
        raise ConfigurationError(
            f"{variable} is not set; `streams run` and `streams demo` start local servers instead"
        )
    return url.get_secret_value()
