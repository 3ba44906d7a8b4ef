"""A connection to Redis that sends commands of a short list, none of which changes anything."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from streams import tls
from streams.cache.client import connect_redis
from streams.doctor.patient import NotThere
from streams.refusal import reason

# TTL, TYPE and MEMORY USAGE leave a key's idle time as it was; STRLEN, for one, would not.
READS: Final = frozenset(
    {"INFO", "PING", "DBSIZE", "SCAN", "PTTL", "MEMORY USAGE", "CONFIG GET", "SLOWLOG GET", "LATENCY LATEST",
     "CLIENT LIST"}
)  # fmt: skip

_PIPELINE: Final = 200


class Forbidden(Exception):
    """Our login may not ask this; the message is the command."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the sample: what it takes in bytes, and its time to live in milliseconds (-1: none)."""

    name: bytes
    bytes: int
    ttl: int

    @property
    def kind(self) -> str:
        """Its prefix, as far as the code chose it: ids are left out."""
        return re.split(r"\d|[0-9a-f]{8}", self.name.decode(errors="replace"))[0][:20] or "?"


class Redis:
    """One server; of a cluster the node that REDIS_URL names first.

    Args:
        seconds: for connecting and for each reply.
    """

    def __init__(self, url: str, *, seconds: float) -> None:
        self._url = url
        self._client = connect_redis(one_node(url), "doctor", timeout=seconds, max_connections=2)
        self.info: Mapping[str, Any] = {}
        self.clock_ahead: float | None = None
        """Seconds that the server's clock is ahead of ours, within `clock_doubt`; None: it does not tell."""
        self.clock_doubt = 0.0
        self._sample: list[Key] | None = None

    async def connect(self) -> None:
        """Connect, and ask for all it tells of itself.

        Raises:
            NotThere: the server cannot be reached or refuses us.
        """
        asked = time.time()
        try:
            self.info = await self.call("INFO")
        except Forbidden as error:
            raise NotThere("this login may not ask INFO: give it +info") from error
        except (RedisError, OSError, TimeoutError) as error:
            raise NotThere(f"cannot be reached: {reason(error)}") from error
        told = self.info.get("server_time_usec")
        now = time.time()
        self.clock_ahead = None if told is None else int(told) / 1e6 - (asked + now) / 2
        self.clock_doubt = (now - asked) / 2

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, command: str, *arguments: str | int | bytes) -> Any:
        """The reply to one command.

        Raises:
            Forbidden: this login may not ask it.
        """
        assert command in READS, f"{command} may change something"
        try:
            return await self._client.execute_command(command, *arguments)
        except NoPermissionError as error:
            raise Forbidden(command) from error
        except ResponseError as error:
            if "unknown command" in str(error).lower():
                raise Forbidden(command) from error  # renamed away, as providers do
            raise

    async def config(self, name: str) -> str:
        """A parameter as the server writes it.

        Raises:
            Forbidden: as `call`.
        """
        found = await self.call("CONFIG GET", name)
        value = found.get(name, found.get(name.encode(), "")) if isinstance(found, dict) else ""
        return value.decode() if isinstance(value, bytes) else str(value)

    async def sample(self, most: int) -> list[Key]:
        """Keys as SCAN brings them, with their sizes; bounded, and the same for all checks of a run."""
        if self._sample is None:
            self._sample = await self._take(most)
        return self._sample

    async def _take(self, most: int) -> list[Key]:
        names: list[bytes] = []
        cursor = 0
        while len(names) < most:
            cursor, some = await self.call("SCAN", cursor, "COUNT", _PIPELINE)
            names += some
            if not int(cursor):
                break
        return [key async for key in self._measured(list(dict.fromkeys(names))[:most])]

    async def _measured(self, names: list[bytes]) -> Any:
        for start in range(0, len(names), _PIPELINE):
            chunk = names[start : start + _PIPELINE]
            pipeline = self._client.pipeline(transaction=False)
            for name in chunk:
                pipeline.execute_command("MEMORY USAGE", name, "SAMPLES", 5)
                pipeline.execute_command("PTTL", name)
            replies = await pipeline.execute(raise_on_error=False)
            if refused := next((r for r in replies if isinstance(r, NoPermissionError)), None):
                raise Forbidden("MEMORY USAGE or PTTL") from refused
            for name, size, ttl in zip(chunk, replies[::2], replies[1::2], strict=True):
                if isinstance(size, int) and isinstance(ttl, int) and ttl != -2:  # it is gone by now
                    yield Key(name, size, ttl)

    def number(self, name: str) -> float:
        """A number of INFO; 0 where the server does not tell it."""
        value = self.info.get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0

    @property
    def is_local(self) -> bool:
        return all(map(tls.is_loopback, tls.hosts(urlsplit(self._url))))

    @property
    def uses_tls(self) -> bool:
        return tls.REDIS.is_secure(urlsplit(self._url))


def one_node(url: str) -> str:
    """The URL of a cluster's first node, to be asked as a server of its own; any other URL as it is."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    if not any(name == "cluster" for name, _ in query):
        return url
    user, at, hosts = parts.netloc.rpartition("@")
    rest = urlencode([(name, value) for name, value in query if name != "cluster"])
    return urlunsplit(parts._replace(netloc=f"{user}{at}{hosts.split(',')[0]}", query=rest))


def kinds(keys: Iterable[Key]) -> str:
    """How many keys there are of each kind, the most frequent first."""
    counts: dict[str, int] = {}
    for key in keys:
        counts[key.kind] = counts.get(key.kind, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} × {kind}…" for kind, count in ordered[:4])
