"""Reads the processes again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from streams.scrape import Change, Sample
from streams.scrape.management import management_client
from streams.scrape.target import Target, client, read_all
from streams.top.view import View, look


class Watching:
    """Keeps the last sample of each process, so that one that comes back is compared with what it was.

    Args:
        management: RabbitMQ's management API, with user and password; None: backlogs are not known.
        vhost: the virtual host that is looked at.
        ca: PEM file of who signs the API's certificate; None: whom the system trusts.
        seconds: for each request.

    Raises:
        ConfigurationError: the API's URL cannot be read.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        management: str | None,
        vhost: str,
        ca: str | None = None,
        seconds: float = 2.0,
    ) -> None:
        self._targets = tuple(targets)
        self._http = client(seconds)
        self._last: dict[Target, Sample] = {}
        self._broker = None if management is None else management_client(management, ca=ca, seconds=seconds)
        self._path = f"/api/queues/{quote(vhost, safe='')}?disable_stats=true&enable_queue_totals=true"

    async def look(self) -> View:
        """Read everything once; rates are since the last time."""
        readings = await read_all(self._http, self._targets)
        changes = []
        for reading in readings:
            if reading.sample is None:
                continue
            if (before := self._last.get(reading.target)) is not None:
                changes.append(Change(before, reading.sample))
            self._last[reading.target] = reading.sample
        return look(readings, changes, await self._queues())

    async def close(self) -> None:
        await self._http.aclose()
        if self._broker is not None:
            await self._broker.aclose()

    async def _queues(self) -> Mapping[str, Mapping[str, Any]] | None:
        """RabbitMQ's queues by name; None if it does not tell."""
        if self._broker is None:
            return None
        try:
            answer = await self._broker.get(self._path)
            answer.raise_for_status()
            return {queue["name"]: queue for queue in answer.json()}
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
