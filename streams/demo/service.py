"""The service under demonstration: worker, updater and API as processes of their own, as in production."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx

from schemas.errors import StreamsError
from streams.processes import ProcessGroup

ROLES: Final = ("worker", "updater", "api")
READY_SECONDS: Final = 40.0


class NotReady(StreamsError):
    """A process did not report ready in time."""


@dataclass(slots=True)
class Service:
    """An async context around a ProcessGroup: entering starts all roles and waits until each is ready.

    Args:
        urls: AMQP_URL, DATABASE_URL, REDIS_URL and what else the children's environment must hold.
        folder: one log file per role goes here.
    """

    urls: Mapping[str, str]
    folder: Path
    group: ProcessGroup = field(default_factory=ProcessGroup)
    bases: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> str:
        """Base URL of the read API."""
        return self.bases["api"]

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    async def __aenter__(self) -> Self:
        try:
            for role in ROLES:
                self._start(role)
            await self._ready()
        except BaseException:
            await self.group.stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.group.stop()

    def _start(self, role: str) -> None:
        port = _free_port()
        self.bases[role] = f"http://127.0.0.1:{port}"
        own = {
            "STREAMS_HTTP_HOST": "127.0.0.1",
            "STREAMS_HTTP_PORT": str(port),
            "STREAMS_API_OPEN": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.log(role).unlink(missing_ok=True)
        self.group.start(
            role,
            [sys.executable, "-m", "streams", role],
            env={**os.environ, **self.urls, **own},
            log=self.log(role),
        )

    async def _ready(self) -> None:
        """Wait for 200 from every /readyz.

        Raises:
            ProcessEnded: one ended at once; its last words are in the message.
            NotReady: one is not ready after 40 s.
        """
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for role, base in self.bases.items():
                while not await _answers(client, f"{base}/readyz"):
                    self.group.check()
                    if asyncio.get_running_loop().time() > deadline:
                        tail = next(child.tail() for child in self.group.children if child.name == role)
                        raise NotReady(f"{role} is not ready after {READY_SECONDS:.0f} s\n{tail}".rstrip())
                    await asyncio.sleep(0.1)

    async def metrics(self, role: str) -> dict[str, float]:
        """Sums over the labels of every sample of a role's /metrics, by sample name; empty if it does not
        answer."""
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                text = (await client.get(f"{self.bases[role]}/metrics")).text
        except httpx.HTTPError:
            return {}
        return sum_samples(text)


def sum_samples(text: str) -> dict[str, float]:
    """The Prometheus text format, labels summed up."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("{")
            value = rest.rpartition("}")[2] if rest else name.partition(" ")[2]
            name = name.partition(" ")[0]
            sums[name] = sums.get(name, 0.0) + float(value.split()[0])
    return sums


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
