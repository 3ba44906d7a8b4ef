"""Each link refuses whom it should not trust, says what to do about it, and tells nobody a password."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import trustme

from schemas.errors import ConfigurationError
from streams.cache import connect_redis
from streams.database import Database
from streams.edge import Broker
from streams.migrations import pending
from streams.producer import Producer
from streams.publisher import Publisher
from streams.refusal import reason
from streams.settings import Settings
from tests.security.endpoints import listening
from tests.security.secured import Certificates, Secured

Connect = Callable[[Settings], Awaitable[None]]


async def _publisher(settings: Settings) -> None:
    assert settings.amqp_url is not None
    publisher = Publisher(settings.amqp_url.get_secret_value(), "test", timeout=5)
    await publisher.connect()
    await publisher.close()


async def _subscriber(settings: Settings, *, tap: bool = True) -> None:
    assert settings.amqp_url is not None
    broker = Broker(settings.amqp_url.get_secret_value(), "test", tap=tap)
    await broker.connect()
    await broker.stop()


async def _producer(settings: Settings) -> None:
    assert settings.amqp_url is not None
    async with Producer(settings.amqp_url.get_secret_value(), source="test", wait=1, close_wait=1):
        pass


async def _pool(settings: Settings) -> None:
    database = Database(settings, "test")
    await database.connect()
    await database.close()


async def _migrations(settings: Settings) -> None:
    assert settings.database_url is not None
    await pending(settings.database_url.get_secret_value(), settings.migration_sources)


async def _redis(settings: Settings) -> None:
    assert settings.redis_url is not None
    client = connect_redis(settings.redis_url.get_secret_value(), "test", timeout=5)
    try:
        await client.ping()
    finally:
        await client.aclose()


CLIENTS: dict[str, tuple[str, Connect]] = {
    "publisher": ("amqp", _publisher),
    "tapped subscriber": ("amqp", _subscriber),
    "plain subscriber": ("amqp", partial(_subscriber, tap=False)),
    "producer": ("amqp", _producer),
    "pool": ("postgresql", _pool),
    "migrations": ("postgresql", _migrations),
    "redis": ("redis", _redis),
}
every_client = pytest.mark.parametrize("client", CLIENTS)


def settings_for(link: str, url: str, ca: Path | None) -> Settings:
    name = {"amqp": "amqp_url", "postgresql": "database_url", "redis": "redis_url"}[link]
    return Settings.load(tls_ca_file=ca, **{name: url})


def url_of(secured: Secured, link: str, host: str = "127.0.0.1") -> str:
    url = {
        "amqp": secured.amqp("worker"),
        "postgresql": secured.database("streams_worker"),
        "redis": secured.redis("updater"),
    }[link]
    return url.replace("127.0.0.1", host)


def at(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))


async def refusal(connect: Connect, settings: Settings) -> str:
    """The line that an operator reads; no connection must come about."""
    try:
        await connect(settings)
    except Exception as error:  # noqa: BLE001 - each client has its own
        said = f"{reason(error)} {error if isinstance(error, ConfigurationError) else ''}"
    else:
        raise AssertionError("it connected")
    # A connection that aio-pika never made is left to the collector, and closes in a running loop only.
    gc.collect()
    await asyncio.sleep(0)
    return said


@every_client
async def test_the_right_server_is_accepted(secured: Secured, client: str) -> None:
    link, connect = CLIENTS[client]
    await connect(settings_for(link, url_of(secured, link), secured.certificates.ca))


@every_client
async def test_an_unknown_authority_is_refused(secured: Secured, client: str, tmp_path: Path) -> None:
    link, connect = CLIENTS[client]
    other = Certificates.issue(tmp_path / "other", "127.0.0.1")
    for ca in (None, other.ca):
        said = await refusal(connect, settings_for(link, url_of(secured, link), ca))
        assert "signed by nobody we trust: set STREAMS_TLS_CA_FILE" in said


@every_client
async def test_another_hosts_certificate_is_refused(secured: Secured, client: str) -> None:
    link, connect = CLIENTS[client]
    settings = settings_for(link, url_of(secured, link, "localhost"), secured.certificates.ca)
    assert "not for the host in the URL" in await refusal(connect, settings)


@every_client
async def test_an_expired_certificate_is_refused(secured: Secured, client: str, tmp_path: Path) -> None:
    link, connect = CLIENTS[client]
    expired = Certificates.issue(tmp_path / "expired", "127.0.0.1", days=-1)
    async with listening(link, expired) as endpoint:
        url = at(url_of(secured, link), endpoint.port)
        assert "expired" in await refusal(connect, settings_for(link, url, expired.ca))
    assert endpoint.received == b""


@every_client
async def test_a_server_without_tls_is_refused_and_learns_nothing(secured: Secured, client: str) -> None:
    link, connect = CLIENTS[client]
    async with listening(link, None) as endpoint:
        url = at(url_of(secured, link), endpoint.port)
        said = await refusal(connect, settings_for(link, url, secured.certificates.ca))
    assert "does not speak TLS on this port" in said
    assert secured.password.encode() not in endpoint.received
    assert b"worker" not in endpoint.received


@every_client
async def test_a_server_with_tls_takes_no_plaintext(secured: Secured, client: str) -> None:
    link, connect = CLIENTS[client]
    plain = url_of(secured, link).replace("amqps:", "amqp:").replace("rediss:", "redis:").partition("?")[0]
    said = await refusal(connect, settings_for(link, plain, None))
    if link == "postgresql":
        assert "add ?sslmode=verify-full" in said


@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-ca", "verify-full"])
async def test_every_sslmode_verifies(secured: Secured, mode: str, tmp_path: Path) -> None:
    other = Certificates.issue(tmp_path / "other", "127.0.0.1")
    url = url_of(secured, "postgresql").replace("verify-full", mode)
    await _pool(settings_for("postgresql", url, secured.certificates.ca))
    for connect in (_pool, _migrations):
        assert "nobody we trust" in await refusal(connect, settings_for("postgresql", url, other.ca))


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """Against a server that asks for one: without it the handshake fails, with it the protocol begins."""
    authority = trustme.CA()
    server = Certificates.issue(tmp_path / "server", "127.0.0.1", authority=authority)
    ours = Certificates.issue(tmp_path / "ours", "streams@example.org", authority=authority)
    async with listening("redis", server, ask=True) as endpoint:
        url = f"rediss://127.0.0.1:{endpoint.port}/0"
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await _redis(Settings.load(tls_ca_file=server.ca, redis_url=url))
        assert endpoint.received == b""
        assert "ResponseError" not in reason(caught.value)
        with pytest.raises(Exception, match="what"):
            await _redis(
                Settings.load(
                    tls_ca_file=server.ca,
                    tls_cert_file=ours.certificate,
                    tls_key_file=ours.key,
                    redis_url=url,
                )
            )
    assert b"HELLO" in endpoint.received
