"""An open loop of reads: each request has its time, and its latency counts from then, sent late or not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Final
from urllib.parse import urlsplit

from streams.bench.latency import Histogram
from streams.bench.misses import Misses

_MOST_CONNECTIONS: Final = 128
_WARMING: Final = 16

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Zipf:
    """Picks places 0, 1, 2.. with weights 1/1, 1/2^s, 1/3^s.."""

    def __init__(self, rng: Random, exponent: float = 1.0) -> None:
        self._rng = rng
        self._exponent = exponent
        self._weights: list[float] = []

    def place(self, count: int) -> int:
        if len(self._weights) != count:
            self._weights = list(accumulate((n + 1) ** -self._exponent for n in range(count)))
        return self._rng.choices(range(count), cum_weights=self._weights)[0]


@dataclass(slots=True)
class Reads:
    """What came of the requests."""

    latency: Histogram = field(default_factory=Histogram)
    sources: Counter[str] = field(default_factory=Counter)
    """Answers by what X-Cache said."""
    statuses: Counter[int] = field(default_factory=Counter)
    counts: bool = True

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status not in (200, 404))

    @property
    def hit_ratio(self) -> float:
        answered = self.sources["hit"] + self.sources["miss"] + self.sources["bypass"]
        return self.sources["hit"] / answered if answered else 0.0


class Reader:
    """A minimal HTTP/1.1 client with kept connections: one that costs little beside what it measures."""

    def __init__(self, base: str, misses: Misses | None = None) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[Connection] = []
        self._misses = misses
        self._slots = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def run(self, path: Callable[[], str], rate: float, seconds: float, warm_up: float = 0.0) -> Reads:
        """Read `rate` times a second; what was due during the warm-up is not counted."""
        reads, ignored = Reads(), Reads(counts=False)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(round(rate * seconds)):
                when = begun + number / rate
                if (left := when - time.perf_counter()) > 0:
                    await asyncio.sleep(left)
                into = ignored if number / rate < warm_up else reads
                group.create_task(self._read(path(), when, into))
                if number % 20 == 0:
                    await asyncio.sleep(0)
        return reads

    async def warm(self, paths: Sequence[str]) -> None:
        """Read each path once, a few at a time."""
        ignored = Reads(counts=False)
        for start in range(0, len(paths), _WARMING):
            now = time.perf_counter()
            await asyncio.gather(
                *(self._read(path, now, ignored) for path in paths[start : start + _WARMING])
            )

    async def _read(self, path: str, when: float, reads: Reads) -> None:
        async with self._slots:
            asked = time.time()
            try:
                status, source = await self._get(path)
            except (OSError, asyncio.IncompleteReadError):
                status, source = 0, ""
        reads.latency.add(time.perf_counter() - when)
        reads.statuses[status] += 1
        if source:
            reads.sources[source] += 1
        if self._misses is not None:
            self._misses.note(path, source, asked, counts=reads.counts)

    async def _get(self, path: str) -> tuple[int, str]:
        connection = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        reader, writer = connection
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length, source = 0, ""
        for line in head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            if name == "content-length":
                length = int(value)
            elif name == "x-cache":
                source = value.strip()
        if length:
            await reader.readexactly(length)
        self._free.append(connection)
        return int(head[9:12]), source

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
        self._free.clear()


@dataclass(slots=True)
class Population:
    """Paths that are read, by kind; each kind has a share, and Zipf's law within it."""

    rng: Random
    kinds: dict[str, tuple[float, list[str]]]
    """Share and paths."""
    _zipfs: dict[str, Zipf] = field(default_factory=dict)

    def admit(self, kind: str, paths: Sequence[str], most: int, *, newest_first: bool = False) -> None:
        """Give newcomers random places, or the first ones; once there are `most`, others go."""
        there = self.kinds[kind][1]
        if newest_first:
            there[:0] = reversed(paths)
            del there[most:]
            return
        for path in paths:
            if len(there) < most:
                there.insert(self.rng.randint(0, len(there)), path)
            else:
                there[self.rng.randrange(most)] = path

    @property
    def paths(self) -> list[str]:
        return [path for _, paths in self.kinds.values() for path in paths]

    def path(self) -> str:
        names = [name for name, (_, paths) in self.kinds.items() if paths]
        name = self.rng.choices(names, [self.kinds[name][0] for name in names])[0]
        paths = self.kinds[name][1]
        zipf = self._zipfs.get(name) or self._zipfs.setdefault(name, Zipf(self.rng))
        return paths[zipf.place(len(paths))]
