"""`streams bench report`: all measurements, written as JSON, SVG and the tables of docs/performance.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson
from rich.console import Console

from streams.bench import baselines, loads
from streams.bench.finding import Finding, Findings
from streams.bench.hops import hops
from streams.bench.measure import Compare, measure_drain, measure_loads
from streams.bench.openloop import Load
from streams.bench.options import By, Export, Options, Tale
from streams.bench.pages import Page, write
from streams.bench.place import Place, place
from streams.bench.results import Result
from streams.bench.routes import routes
from streams.bench.scaling import vary
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    drain: int
    batch: int
    repeat: int
    seconds: float
    scaling: int
    stored: tuple[int, ...]
    backlog: int
    profile_minutes: float


FULL: Final = Sizes(100_000, 300_000, 3, 15, 60_000, (0, 1_000_000, 10_000_000), 1_000_000, 0.4)
QUICK: Final = Sizes(10_000, 20_000, 1, 5, 10_000, (0, 100_000), 30_000, 0.1)

Measured = Result | Findings


class Everything:
    """All measurements on one set of servers; what is done is kept even if a later one fails."""

    def __init__(self, where: Place, sizes: Sizes, console: Console) -> None:
        self._place = where
        self._sizes = sizes
        self._console = console

    def steps(self) -> dict[str, Callable[[], Awaitable[Measured]]]:
        """By name, in their order."""
        sizes = self._sizes
        seconds = sizes.seconds
        single, arrays = Options(sizes.drain), Options(sizes.batch, 100)
        return {
            "drain": lambda: self._drain("drain", single, baselines.all_of),
            "drain-discard": lambda: self._drain("drain", replace(single, export=Export.DISCARD)),
            "batch": lambda: self._drain("batch", arrays, baselines.all_of),
            "created": lambda: self._drain(
                "created", replace(arrays, story=Tale.CREATED), baselines.only_ceilings
            ),
            "steady": lambda: self._loads("steady", loads.steady(2000, seconds)),
            "api": lambda: self._loads("api", loads.api(1000, seconds)),
            "mixed": lambda: self._several("mixed", loads.mixed(500, 500, seconds)),
            "consistency": lambda: self._loads("consistency", loads.consistency(2000, seconds)),
            "routes": self._routes,
            "smoke": lambda: self._profile("smoke", 2),
            "load": lambda: self._profile("load", 100),
            "stress": lambda: self._profile("stress", 500),
            "soak": lambda: self._profile("soak", 50),
            "hops": self._hops,
            "workers": lambda: self._vary(By.WORKERS, (1, 2, 3)),
            "payload": lambda: self._vary(By.PAYLOAD, (200, 2_000, 20_000)),
            "stored": lambda: self._vary(By.STORED, sizes.stored),
            "backlog": lambda: self._vary(By.BACKLOG, (sizes.backlog,)),
        }

    async def _drain(self, kind: str, options: Options, compare: Compare | None = None) -> Result:
        return await measure_drain(self._place, kind, options, self._sizes.repeat, compare, self._console)

    async def _loads(self, kind: str, load: Load) -> Findings:
        return await measure_loads(self._place, kind, {kind: load}, self._sizes.repeat, self._console)

    async def _several(self, kind: str, found: dict[str, Load]) -> Findings:
        return await measure_loads(self._place, kind, found, self._sizes.repeat, self._console)

    async def _profile(self, name: str, users: int) -> Findings:
        found = loads.PROFILES[name].loads(users, self._sizes.profile_minutes)
        return await measure_loads(self._place, name, found, 1, self._console)

    async def _hops(self) -> Findings:
        options = Options(self._sizes.drain)
        with TemporaryDirectory(prefix="streams-bench-") as folder:
            finding: Finding = await hops(self._place, options, Path(folder, "stacks"))
        return Findings("hops", options.as_json(), [finding])

    async def _routes(self) -> Findings:
        console, rate, seconds = self._console, 1000.0, min(2.0, self._sizes.seconds / 3)
        console.print(f"routes: {rate:g} reads/s of each, {seconds:g} s", highlight=False)
        finding = await routes(self._place, rate, seconds, 10_000)
        return Findings("routes", {"rate": rate, "seconds": seconds}, [finding])

    async def _vary(self, by: By, values: tuple[int, ...]) -> Findings:
        return await vary(self._place, by, Options(self._sizes.scaling), values, 1, self._console)


async def report(sizes: Sizes, docs: Path, only: list[str], console: Console) -> bool:
    """Measure, and write docs/performance.md and docs/performance/; whether all checks hold.

    Args:
        only: names of steps; empty for all. The page keeps what it has of the others.
    """
    console.print("starting private RabbitMQ, PostgreSQL and Redis", highlight=False)
    page = Page(docs)
    good = True
    async with place(Settings.load()) as where:
        steps = Everything(where, sizes, console).steps()
        for name, step in steps.items():
            if only and name not in only:
                continue
            console.print(f"[bold]{name}[/bold]", highlight=False)
            measured = await step()
            good = good and measured.ok
            await asyncio.to_thread(write, page, name, orjson.loads(orjson.dumps(measured.as_json())))
    return good
