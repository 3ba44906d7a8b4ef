"""`streams run`: all roles at once, for a small installation and for looking around."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping

from streams.health import free_port
from streams.lifecycle import stop_on_signals
from streams.migrations import migrate
from streams.processes import ProcessGroup
from streams.settings import Settings
from streams.stack import LocalStack
from streams.telemetry import configure_logging


def run() -> None:
    """Run everything: worker, updater and read API, on a private local stack where no URL is given."""
    settings = Settings.load()
    configure_logging(settings.log_level, json=settings.log_json)
    with contextlib.ExitStack() as stack:
        environment = {**os.environ, **settings.server_urls}
        if not settings.has_servers:
            print("Starting private PostgreSQL, Redis and RabbitMQ ...", flush=True)
            urls = stack.enter_context(LocalStack("run"))
            environment |= urls.environment() | settings.server_urls
            environment.setdefault("STREAMS_API_OPEN", "1")  # nobody but this machine reaches it
        status = asyncio.run(_supervise(environment, settings))
    raise SystemExit(status)


async def _supervise(environment: Mapping[str, str], settings: Settings) -> int:
    """Migrate, start the three roles, wait for a signal or for one of them to end."""
    await migrate(environment["DATABASE_URL"], settings.migration_sources)
    stop = stop_on_signals()
    ports = _ports(settings)
    async with ProcessGroup(stop_seconds=settings.shutdown_seconds + 10) as group:
        for role, port in ports.items():
            host = settings.http_host if role == "api" else "127.0.0.1"
            own = {"STREAMS_HTTP_HOST": host, "STREAMS_HTTP_PORT": str(port)}
            group.start(role, [sys.executable, "-m", "streams", role], env={**environment, **own})
        _where_to_look(environment, settings, ports)
        if (child := await group.wait(stop)) is None:
            print("Stopping: draining what was received ...", flush=True)
            return 0
        print(
            f"{child.name} ended with status {child.process.returncode}; stopping the rest", file=sys.stderr
        )
        return 1


def _ports(settings: Settings) -> dict[str, int]:
    """Where each role serves HTTP: the port that is set and the two after it, for scrapers; or free ones."""
    first = settings.http_port
    if first:
        return {"api": first, "worker": first + 1, "updater": first + 2}
    free = {role: free_port("127.0.0.1") for role in ("worker", "updater")}
    return {**free, "api": free_port(settings.http_host)}


def _where_to_look(environment: Mapping[str, str], settings: Settings, ports: Mapping[str, int]) -> None:
    api_base = f"http://{settings.http_host}:{ports['api']}"
    print(f"  read API   {api_base}/v1/tasks   (documentation: {api_base}/schema)")
    print(f"  events     {api_base}/asyncapi   (also .yaml and .json)")
    for role in ("worker", "updater"):
        print(f"  {role:<10} http://127.0.0.1:{ports[role]}/readyz and /metrics")
    if not settings.has_servers:
        print("  publish to and query these (private, of this run):")
        for name in ("AMQP_URL", "DATABASE_URL", "REDIS_URL"):
            print(f"    export {name}='{environment[name]}'")
    print("  Ctrl-C drains and stops.", flush=True)
