"""Our processes as FastStream applications, for those who start everything with FastStream's command line.

    faststream run streams.faststream_app:app        # worker and updater in one process
    faststream run streams.faststream_app:worker
    faststream docs gen --yaml streams.faststream_app:app

`run` is the whole of `streams worker` (and `updater`): it waits for servers, consumes, and drains on SIGTERM
in our order. FastStream's own order would give back what arrives while it stops. The document is ours, not
FastStream's, which knows no headers, bindings, queue arguments or examples. The application holds no broker:
`Service` has one for each role, out of reach of FastStream's "Try it out".
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any, Final

from faststream import FastStream

from schemas.contract import Store
from schemas.errors import StreamsError
from streams.app import Service
from streams.asyncapi import VERSION, Limits, build, to_json, to_yaml
from streams.lifecycle import first_of_ours
from streams.registry import load_subscriptions
from streams.settings import Settings
from streams.telemetry import configure_logging

_TITLE: Final = "Agent Streams"


class Document:
    """Our AsyncAPI document, as FastStream's commands ask for one."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    @property
    def title(self) -> str:
        return str(self._document["info"]["title"])

    def to_jsonable(self) -> Any:
        return self._document

    def to_json(self) -> str:
        return to_json(self._document).decode()

    def to_yaml(self) -> str:
        return to_yaml(self._document)


class Factory:
    """Builds the document when it is asked for: importing this module reads no environment."""

    title = _TITLE
    description: str | None = None
    version: str | None = VERSION
    contact = None
    license = None

    def add_broker(self, broker: object, /) -> Factory:
        return self

    def add_http_route(self, path: str, handler: object) -> Factory:
        return self

    def to_specification(self) -> Document:
        settings = Settings.load()
        return Document(build(load_subscriptions(settings.handlers), Limits.of(settings)))


class Application(FastStream):
    """Roles of ours that run in one process; each has its own consumers, health and metrics."""

    def __init__(self, *roles: Store) -> None:
        super().__init__(logger=None, specification=Factory())  # type: ignore[arg-type]
        self._roles = roles
        self._stop = asyncio.Event()

    async def run(
        self, log_level: int = logging.INFO, run_extra_options: Any = None, sleep_time: float = 0.1
    ) -> None:
        """Serve until SIGTERM, SIGINT or `exit`, then drain; settings that cannot work end the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.exit)
        try:
            with first_of_ours():
                await self._serve()
        except StreamsError as error:
            raise SystemExit(f"streams: {error}") from None

    def exit(self) -> None:
        """Stop consuming, finish what is here, end."""
        self._stop.set()

    async def _serve(self) -> None:
        settings = Settings.load()
        configure_logging(settings.log_level, json=settings.log_json)
        services = [Service(self._own(settings, place), role) for place, role in enumerate(self._roles)]
        async with asyncio.TaskGroup() as group:
            for service in services:
                group.create_task(service.run(self._stop), name=service.name)

    @staticmethod
    def _own(settings: Settings, place: int) -> Settings:
        """Two roles cannot listen on one port: the second takes a free one, which its log names."""
        return settings if place == 0 else settings.model_copy(update={"http_port": 0})


app = Application(Store.POSTGRES, Store.REDIS)
worker = Application(Store.POSTGRES)
updater = Application(Store.REDIS)
