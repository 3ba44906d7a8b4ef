"""`streams worker`, `updater` and `api`: what runs for long, by itself."""

from __future__ import annotations

import gc
from typing import Final

import typer
import uvloop

from schemas.contract import Store
from streams.app import Service
from streams.lifecycle import leave_within, leaving_whole
from streams.settings import Settings
from streams.telemetry import configure_logging

app = typer.Typer(name="streams", add_completion=False, pretty_exceptions_enable=False)

_GARBAGE: Final = 500_000
"""Objects more than were given up since, before the collector looks for cycles: more than the events under
way are made of. At the default of 700 it walks all of those again and again, for 14 µs an event, and
none of them is ever garbage."""


@app.command()
def worker() -> None:
    """Store events: consume, write to PostgreSQL in batches, publish what changed."""
    _serve(Store.POSTGRES)


@app.command()
def updater() -> None:
    """Keep caches fresh: consume invalidations and apply them to Redis."""
    _serve(Store.REDIS)


@app.command()
def api() -> None:
    """Serve the read API."""
    from streams.api import serve

    settings = Settings.load()
    configure_logging(settings.log_level, json=settings.log_json)
    with leaving_whole():
        serve(settings)


def _serve(role: Store) -> None:
    settings = Settings.load()
    configure_logging(settings.log_level, json=settings.log_json)
    gc.set_threshold(_GARBAGE, 10, 10)

    async def serve(service: Service) -> None:
        try:
            await service.run()
        finally:
            leave_within(5.0)

    with leaving_whole():
        uvloop.run(serve(Service(settings, role)))
