"""The processes that are looked at, over HTTP alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from schemas.errors import ConfigurationError
from streams.scrape import local
from streams.scrape.sample import Sample, parse
from streams.watch import escaped

_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """One process: what it does, and the base of its URLs."""

    role: str
    url: str

    @property
    def name(self) -> str:
        """What it is called where there is no room for a URL: never a user or a password."""
        parts = urlsplit(self.url)
        return escaped(f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process said, or why nothing came."""

    target: Target
    sample: Sample | None = None
    trouble: str = ""
    ready: bool | None = None
    """As /readyz has it; None: it does not answer."""
    troubles: Mapping[str, str] | None = None
    """What keeps it from being ready, by name; escaped."""


def targets(given: Mapping[str, Sequence[str]]) -> list[Target]:
    """The processes at these URLs by role; with none at all, those of this machine.

    Raises:
        ConfigurationError: a URL is none.
    """
    urls = given if any(given.values()) else local.processes()
    return [Target(role, _base(url)) for role in local.ROLES for url in urls.get(role, ())]


def _base(url: str) -> str:
    wrong = ConfigurationError("a process is named by its URL, as in http://10.0.0.7:9100")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    path = parts.path.rstrip("/").removesuffix("/metrics")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def client(timeout: float) -> httpx.AsyncClient:
    """A client for `read`; the caller closes it."""
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False)


async def read(http: httpx.AsyncClient, target: Target) -> Reading:
    """Metrics and readiness of one process; never raises for what it does."""
    try:
        metrics, ready = await asyncio.gather(
            http.get(f"{target.url}/metrics"), http.get(f"{target.url}/readyz")
        )
        at = time.monotonic()
        if metrics.status_code != httpx.codes.OK:
            return Reading(target, trouble=f"/metrics answers {metrics.status_code}")
        if len(metrics.content) > _BYTES:
            return Reading(target, trouble="/metrics is too large")
        sample = parse(metrics.text, at)
    except httpx.HTTPError as error:
        return Reading(target, trouble=_words(error))
    except ValueError:
        return Reading(target, trouble="/metrics is not in Prometheus's format")
    return Reading(target, sample, ready=ready.status_code == httpx.codes.OK, troubles=_troubles(ready))


async def read_all(http: httpx.AsyncClient, wanted: Iterable[Target]) -> list[Reading]:
    return list(await asyncio.gather(*(read(http, target) for target in wanted)))


def _words(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "does not answer in time"
    return "nobody listens" if isinstance(error, httpx.ConnectError) else type(error).__name__


def _troubles(answer: httpx.Response) -> dict[str, str]:
    """Of a worker `troubles`; of the API the `checks` that are not up."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    said = body.get("troubles")
    if not isinstance(said, dict):
        checks = body.get("checks")
        said = {k: v for k, v in checks.items() if v != "up"} if isinstance(checks, dict) else {}
    return {escaped(str(name))[:60]: escaped(str(what))[:300] for name, what in said.items()}
