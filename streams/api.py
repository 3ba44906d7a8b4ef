"""The read API as a process, or as several that share a port: Granian inside our own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from granian.utils.proxies import wrap_asgi_with_proxy_headers

from handlers.access import Quota
from handlers.api import Limits as ApiLimits
from handlers.api import create_app
from handlers.gate import Gate
from handlers.leaderboards import Leaderboards
from handlers.selecting import Rows
from handlers.together import groups
from handlers.warming import Warmer
from streams.asyncapi import Limits, build, to_html, to_json, to_yaml
from streams.bus import CacheBus
from streams.cache import Cache, Keeping, LocalLimits, Refreshing, connect_redis
from streams.database import Database
from streams.health import free_port
from streams.http import embedded
from streams.lifecycle import end, stop_on_signals
from streams.locks import Locks
from streams.ratelimit import RateLimiter
from streams.refusal import reason
from streams.registry import load_subscriptions
from streams.settings import Settings, require
from streams.sharing import Shared, share
from streams.telemetry import Telemetry
from streams.telemetry.requests import traced

log = structlog.get_logger(__name__)

_REDIS_TIMEOUT = 0.5  # a silent Redis costs one read this much; a busy event loop must not look like one


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was asked already.

    Raises:
        ConfigurationError: a URL is missing or cannot be used; nothing was started.
    """
    if settings.api_workers > 1:
        raise SystemExit(uvloop.run(share(settings)))
    uvloop.run(Api(settings).run())


class Api:
    """The read API from its settings to its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._documents = contract_pages(settings)
        self._telemetry = Telemetry.from_environment("api", link_limit=1)
        self._database = Database(settings, "api", metrics=self._telemetry.metrics)
        redis = connect_redis(require(settings.redis_url, "REDIS_URL"), "api", timeout=_REDIS_TIMEOUT)
        self._cache = Cache(
            redis,
            metrics=self._telemetry.metrics,
            keeping=Keeping(stale_seconds=settings.cache_stale_seconds),
            local=_memory(settings),
            refresh=Refreshing(settings.refresh_rate, settings.read_ahead_seconds),
        )
        self._limiter = RateLimiter(redis)
        self._redis = redis
        self.host = settings.http_host
        self.port = settings.http_port or free_port(settings.http_host)

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Connect, serve until SIGTERM, SIGINT or `stop`, drain, close."""
        stop = stop or stop_on_signals()
        if not await self._connect(stop):
            return
        leaderboards = Leaderboards(
            self._database.pool, self._redis, Locks(self._redis), self._telemetry.metrics.boards
        )
        self._cache.load_together(groups(Rows(self._database.pool, Gate(1))))
        requests = Requests(traced(self._app(leaderboards), self._telemetry.tracing))
        self._telemetry.metrics.http_requests_in_flight.set_function(lambda: requests.count)
        self._telemetry.metrics.ready.set(1)
        gc.collect()
        gc.freeze()  # 100,000 objects that live on: walking them would make readers wait for 100 ms and more
        servers = self._servers(requests)
        serving = [asyncio.create_task(server.serve()) for server in servers]
        stopping = asyncio.create_task(stop.wait())
        log.info("ready", role="api", url=f"http://{self.host}:{self.port}/v1", open=self._settings.api_open)
        warming = self._warm()
        listening = [asyncio.create_task(ear.run(), name="cache bus") for ear in self._ears()]
        try:
            await asyncio.wait({*serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for server in servers:
                server.stop()  # type: ignore[no-untyped-call]
            await requests.drain(self._settings.shutdown_seconds)
            await asyncio.gather(*serving)
        finally:
            stopping.cancel()
            await end([*listening, *warming])
            await leaderboards.close()
            await self._close()

    def _servers(self, requests: Requests) -> list[Server]:
        """On the port for readers, and on one for metrics if they have one of their own."""
        own = self._settings.api_metrics_port
        if not own:
            return [embedded(requests, self.host, self.port, Interfaces.ASGI)]
        log.info("metrics", role="api", url=f"http://{self.host}:{own}/metrics")
        return [
            embedded(Shared(requests), self.host, self.port, Interfaces.ASGI),
            embedded(requests, self.host, own, Interfaces.ASGI),
        ]

    def _warm(self) -> list[asyncio.Task[None]]:
        """Fill the caches with what readers will ask for first, beside serving."""
        if not self._settings.warm:
            return []
        warmer = Warmer(
            self._database.pool,
            self._cache,
            self._redis,
            Locks(self._redis),
            meter=self._telemetry.metrics.boards,
        )

        async def run() -> None:
            try:
                await warmer.run()
            except Exception as error:  # noqa: BLE001 - whatever keeps it from warming, readers fill the caches
                log.warning("caches were not warmed", error=type(error).__name__)

        return [asyncio.create_task(run(), name="warming")]

    def _ears(self) -> list[CacheBus]:
        """What lets this process use its memory; without it nothing is held there."""
        url = self._settings.amqp_url
        if url is None or self._cache.hears is None:
            why = "STREAMS_L1_ENTRIES=0" if url else "AMQP_URL is not set"
            log.info("no values are held in memory", why=why)
            return []
        return [CacheBus(url.get_secret_value(), "api", self._cache, self._telemetry.metrics)]

    def _app(self, leaderboards: Leaderboards) -> Any:
        settings = self._settings
        rate = settings.requests_per_second
        app = create_app(
            pool=self._database.pool,
            cache=self._cache,
            metrics=self._telemetry.metrics,
            limiter=self._limiter,
            is_open=settings.api_open,
            limits=ApiLimits(
                quota=None if rate is None else Quota(rate, max(1, round(rate))),
                seconds=settings.pool.query_timeout,
                heavy=max(1, settings.pool.max_size // 2),
            ),
            documents=self._documents,
            leaderboards=leaderboards,
        )
        proxies = list(settings.trusted_proxies)
        return wrap_asgi_with_proxy_headers(app, proxies) if proxies else app

    async def _connect(self, stop: asyncio.Event) -> bool:
        """Wait for PostgreSQL, however long it takes to come up; False if we were to stop meanwhile."""
        wait = 0.2
        while not stop.is_set():
            try:
                await self._database.connect()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("waiting for a server", server="PostgreSQL", error=reason(error))
            else:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            wait = min(wait * 2, 5.0)
        return False

    async def _close(self) -> None:
        await self._cache.close()
        await self._database.close()
        await asyncio.to_thread(self._telemetry.shutdown, 5.0)
        log.info("stopped", role="api")


def contract_pages(settings: Settings) -> dict[str, Callable[[], tuple[bytes, str]]]:
    """The AsyncAPI document by path; each form is made when it is first asked for.

    Raises:
        ConfigurationError: a module of handlers cannot be used.
    """
    subscriptions = load_subscriptions(settings.handlers)

    @functools.cache
    def document() -> dict[str, Any]:
        return build(subscriptions, Limits.of(settings))

    return {
        "/asyncapi": functools.cache(lambda: (to_html(document()).encode(), "text/html; charset=utf-8")),
        "/asyncapi.json": functools.cache(lambda: (to_json(document()), "application/json")),
        "/asyncapi.yaml": functools.cache(lambda: (to_yaml(document()).encode(), "application/yaml")),
    }


def _memory(settings: Settings) -> LocalLimits | None:
    if settings.amqp_url is None or not settings.l1_entries:
        return None
    return LocalLimits(settings.l1_entries, settings.l1_bytes, settings.l1_seconds)


class Requests:
    """Keeps count of the requests under way, since Granian's embedded server does not wait for them."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.count += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self.count -= 1
            if not self.count:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait until no request is under way."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            log.warning("requests were cut off", role="api", count=self.count)
