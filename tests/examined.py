"""A small real service to be examined, and what an examination of it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from schemas.contract import Store
from streams.api import Api
from streams.app import Service
from streams.doctor.checks import all_checks
from streams.doctor.examination import examine
from streams.doctor.limits import Limits
from streams.doctor.model import Finding, Result, Verdict
from streams.health import free_port
from streams.scrape.target import Target, targets
from tests.conftest import Servers
from tests.support import eventually, settings_for


@asynccontextmanager
async def whole_service(servers: Servers, **overrides: Any) -> AsyncIterator[list[Target]]:
    """Worker, updater and read API in this process, ready on entry; where they serve HTTP."""
    stop = asyncio.Event()
    urls: dict[str, list[str]] = {}

    def settings(role: str) -> Any:
        port = free_port("127.0.0.1")
        urls[role] = [f"http://127.0.0.1:{port}"]
        return settings_for(servers, http_port=port, api_open=True, api_rate=1_000_000, **overrides)

    services = [Service(settings("worker"), Store.POSTGRES), Service(settings("updater"), Store.REDIS)]
    api = Api(settings("api"))
    async with asyncio.TaskGroup() as group, httpx.AsyncClient() as http:
        for each in (*services, api):
            group.create_task(each.run(stop))

        async def ready() -> bool:
            try:
                return (await http.get(f"{urls['api'][0]}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            await eventually(lambda: all(service.health.ready for service in services))
            await eventually(ready, "the API is ready")
            yield targets(urls)
        finally:
            stop.set()


async def findings(
    servers: Servers,
    where: Sequence[Target],
    *,
    window: float = 0.0,
    limits: Limits | None = None,
    **overrides: Any,
) -> dict[str, Finding]:
    """What every check finds, by its name."""
    results = await results_of(servers, where, window=window, limits=limits, **overrides)
    return {result.check.name: result.finding for result in results}


async def results_of(
    servers: Servers,
    where: Sequence[Target],
    *,
    window: float = 0.0,
    limits: Limits | None = None,
    **overrides: Any,
) -> list[Result]:
    return await examine(
        settings_for(servers, **overrides),
        all_checks(),
        where,
        management=servers.management,
        window=window,
        limits=limits,
    )


# What other tests do to the servers, and to the machine, is no business of ours.
_SHARED = {"postgres.checkpoints", "postgres.autovacuum-workers"}


def wrong(found: dict[str, Finding]) -> set[str]:
    """The checks that found something."""
    return {
        name
        for name, finding in found.items()
        if finding.verdict in (Verdict.WARNING, Verdict.CRITICAL)
        and not name.startswith("host.")
        and name not in _SHARED
    }
