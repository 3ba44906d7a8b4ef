"""Our processes: read twice, with a window between; and requests to the read API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from streams import tls
from streams.scrape import Change, Sample
from streams.scrape.sample import quantile
from streams.scrape.target import Reading, Target, client, read_all

_GRACE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What the read API answered."""

    status: int
    headers: httpx.Headers
    size: int
    """Bytes of the body, decompressed."""
    seconds: float
    at: float
    """When it came, by our wall clock."""


class Service:
    """Args: `seconds` for each request; `token` a bearer token of the API, if there is one."""

    def __init__(self, targets: Sequence[Target], *, seconds: float, token: str | None = None) -> None:
        self.targets = tuple(targets)
        self.token = token
        self._http = client(seconds)
        self.before: list[Reading] = []
        self.after: list[Reading] = []
        self._began = 0.0
        self._answers: dict[str, Answer] = {}

    async def begin(self) -> None:
        """The first reading of all processes."""
        self.before = self.after = await read_all(self._http, self.targets)
        self._began = time.monotonic()

    async def finish(self, window: float) -> None:
        """The second one, `window` seconds after the first."""
        await asyncio.sleep(max(0.0, self._began + window - time.monotonic()))
        if window > _GRACE:
            self.after = await read_all(self._http, self.targets)

    async def close(self) -> None:
        await self._http.aclose()

    def samples(self, *roles: str) -> list[Sample]:
        """The latest of each process with one of these roles; of all roles if none is named."""
        return [
            r.sample for r in self.after if r.sample is not None and (not roles or r.target.role in roles)
        ]

    def changes(self, *roles: str) -> list[Change]:
        """What happened in the window, by process that answered both times."""
        return [
            Change(first.sample, last.sample)
            for first, last in zip(self.before, self.after, strict=True)
            if first.sample is not None and last.sample is not None and first is not last
            if not roles or last.target.role in roles
        ]

    def total(self, name: str, *roles: str, **labels: str) -> float | None:
        """The sum over all processes since they started; None if no process tells."""
        return _sum(sample.total(name, **labels) for sample in self.samples(*roles))

    def increase(self, name: str, *roles: str, **labels: str) -> float | None:
        """The sum over all processes in the window."""
        return _sum(change.increase(name, **labels) for change in self.changes(*roles))

    def routes(self) -> list[str]:
        """The routes under /v1 that the read API was asked for so far."""
        name = "streams_http_request_duration_seconds_count"
        return sorted({r for s in self.samples("api") for r in s.by(name, "route") if r.startswith("/v1")})

    def quantile(
        self, name: str, q: float, *roles: str, each: Sequence[Mapping[str, str]] = ({},)
    ) -> tuple[float, str] | None:
        """A percentile over all processes, and of when: of the window, or since the start if it was quiet.

        Args:
            each: labels of the series that count.
        """
        changes, samples, bucket = self.changes(*roles), self.samples(*roles), f"{name}_bucket"
        for of, when in (
            ([change.buckets(name, **labels) for change in changes for labels in each], "in the window"),
            ([s.by(bucket, "le", **labels) for s in samples for labels in each], "since the start"),
        ):
            found = quantile(_add(of), q)
            if found is not None:
                return found, when
        return None

    @property
    def seconds(self) -> float:
        """Length of the window; 0 without one."""
        return max((change.seconds for change in self.changes()), default=0.0)

    @property
    def api(self) -> Target | None:
        """The first read API that answers."""
        return next((r.target for r in self.after if r.target.role == "api" and r.sample is not None), None)

    async def ask(self, path: str, *, compressed: bool = False, authorized: bool = True) -> Answer | None:
        """GET from the read API; None if there is none. Asked once for each path and way.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        if self.api is None:
            return None
        key = f"{path} {compressed} {authorized}"
        if key not in self._answers:
            headers = {"accept-encoding": "gzip" if compressed else "identity"}
            if authorized and self.token and self._may_send_token(self.api.url):
                headers["authorization"] = f"Bearer {self.token}"
            started = time.perf_counter()
            answer = await self._http.get(f"{self.api.url}{path}", headers=headers)
            self._answers[key] = Answer(
                answer.status_code,
                answer.headers,
                len(answer.content),
                time.perf_counter() - started,
                time.time(),
            )
        return self._answers[key]

    async def document(self) -> dict[str, object]:
        """The API's OpenAPI document; empty if it has none."""
        if self.api is None:
            return {}
        answer = await self._http.get(f"{self.api.url}/schema/openapi.json")
        found = answer.json() if answer.status_code == httpx.codes.OK else {}
        return found if isinstance(found, dict) else {}

    @staticmethod
    def _may_send_token(url: str) -> bool:
        """A token never leaves this machine in plaintext."""
        parts = urlsplit(url)
        return parts.scheme == "https" or tls.is_loopback(parts.hostname or "")


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _add(histograms: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for histogram in histograms:
        for bound, count in histogram.items():
            total[bound] = total.get(bound, 0.0) + count
    return total
