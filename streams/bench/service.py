"""The processes under measurement, as `streams worker` and `streams updater` run them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from schemas.errors import StreamsError
from streams.bench.options import Export
from streams.health import free_port
from streams.processes import Child, ProcessGroup

READY_SECONDS: Final = 60.0


class NotReady(StreamsError):
    """A process did not report ready in time."""


Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Prometheus samples by name: labels and value."""


@dataclass(slots=True)
class Processes:
    """An async context; leaving it stops what is still running.

    Args:
        environment: AMQP_URL, DATABASE_URL, REDIS_URL. Our own STREAMS_* and OTEL_BSP_* variables go to the
            processes, too.
        folder: one log file per process goes here.
        protocol: OTEL_EXPORTER_OTLP_PROTOCOL; None for the service's own choice.
        profile: a worker's collapsed stacks go there, see streams.bench.profiled.
    """

    environment: Mapping[str, str]
    folder: Path
    export: Export
    protocol: str | None = None
    profile: str | None = None
    group: ProcessGroup = field(default_factory=ProcessGroup)
    roots: dict[str, int] = field(default_factory=dict)
    """Process ids by name."""
    bases: dict[str, str] = field(default_factory=dict)
    ready_at: dict[str, float] = field(default_factory=dict)
    _receiver: str = ""
    _ports: tuple[int, int] = (0, 0)
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=10, trust_env=False))

    async def __aenter__(self) -> Self:
        if self.export is Export.OTLP:
            self._ports = free_port("127.0.0.1"), free_port("127.0.0.1")
            self._receiver = f"http://127.0.0.1:{self._ports[1]}"
            self._start("receiver", ["-m", "streams.bench.receiver", *map(str, self._ports)], {})
            await self._answers("receiver", f"{self._receiver}/counts")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.group.stop()
        await self._http.aclose()

    def start(
        self, role: str, name: str | None = None, arguments: list[str] | None = None, **environment: str
    ) -> None:
        """Start one process of the service: `streams worker`, `streams updater` or `streams api`."""
        name = name or role
        port = free_port("127.0.0.1")
        self.bases[name] = f"http://127.0.0.1:{port}"
        entry = "streams.bench.discarding" if self.export is Export.DISCARD else "streams"
        wrapper = ["-m", "streams.bench.profiled", self.profile] if self.profile and role == "worker" else []
        module = [*wrapper, entry] if wrapper else ["-m", entry]
        own = {
            "STREAMS_HTTP_HOST": "127.0.0.1",
            "STREAMS_HTTP_PORT": str(port),
            "STREAMS_API_OPEN": "1",
            "STREAMS_API_RATE": "1000000",  # the limiter is at work, and refuses nobody
            "STREAMS_LOG_LEVEL": os.environ.get("STREAMS_LOG_LEVEL", "WARNING"),
        }
        self._start(name, arguments or [*module, role], own | self._telemetry() | environment)

    async def ready(self, *names: str) -> None:
        """Wait for 200 from /readyz of each.

        Raises:
            ProcessEnded: one has ended; its last words are in the message.
            NotReady: one is not ready after a minute.
        """
        for name in names:
            await self._answers(name, f"{self.bases[name]}/readyz")
            self.ready_at[name] = time.time()

    async def metrics(self, name: str) -> Samples:
        text = (await self._http.get(f"{self.bases[name]}/metrics")).text
        samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
        return samples

    async def received(self) -> dict[str, int]:
        """What the receiver has counted; empty without one."""
        if not self._receiver:
            return {}
        counts: dict[str, int] = (await self._http.get(f"{self._receiver}/counts")).json()
        return counts

    async def stop(self, *names: str) -> None:
        """SIGTERM, and wait until each has drained and ended."""
        ending = [child for child in self.group.children if child.name in names]
        for child in ending:
            child.process.terminate()
        await asyncio.gather(*(asyncio.to_thread(child.process.wait, 40) for child in ending))
        self.group.children = [child for child in self.group.children if child not in ending]

    def tails(self) -> str:
        """The ends of the processes' logs."""
        return "\n".join(f"{child.name}:\n{child.tail()}" for child in self.group.children)

    def _start(self, name: str, arguments: list[str], own: Mapping[str, str]) -> Child:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("OTEL_") or key.startswith("OTEL_BSP_")
        }
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        child = self.group.start(
            name,
            [sys.executable, *arguments],
            env={**inherited, **self.environment, "PYTHONUNBUFFERED": "1", **own},
            log=log,
        )
        self.roots[name] = child.process.pid
        return child

    def _telemetry(self) -> dict[str, str]:
        if self.export is Export.NONE:
            return {"OTEL_TRACES_EXPORTER": "none"}
        common = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_EXPORTER": "otlp"}
        if self.export is Export.DISCARD:
            return common
        grpc_port, http_port = self._ports
        over_http = (self.protocol or "grpc").startswith("http")
        endpoint = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http_port if over_http else grpc_port}"
        }
        return common | endpoint | ({"OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol} if self.protocol else {})

    async def _answers(self, name: str, url: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if (await self._http.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            self.group.check()
            if time.monotonic() > deadline:
                raise NotReady(f"{name} is not ready after {READY_SECONDS:.0f} s\n{self.tails()}")
            await asyncio.sleep(0.05)


def total(samples: Samples, name: str, **labels: Any) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        value for found, value in samples.get(name, ()) if all(found.get(k) == v for k, v in labels.items())
    )
