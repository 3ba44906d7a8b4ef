"""From the command line to a result."""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from rich.console import Console

from streams.bench import baselines
from streams.bench.drain import drain
from streams.bench.options import Options
from streams.bench.place import place
from streams.bench.report import show
from streams.bench.results import Result
from streams.settings import Settings
from streams.telemetry import configure_logging


def run_drain(kind: str, options: Options, repeat: int, *, compare: bool, as_json: bool) -> int:
    """Measure, report; returns the exit status: 0, or 1 if something was not stored as it should be.

    Raises:
        StreamsError, StackError: it could not be measured.
    """
    configure_logging("WARNING", json=False)
    console = Console(stderr=as_json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_drains(kind, options, repeat, compare, console))
    if as_json:
        sys.stdout.write(orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        show(console, result)
    return 0 if result.ok else 1


async def _drains(kind: str, options: Options, repeat: int, compare: bool, console: Console) -> Result:
    result = Result(kind, options.as_json())
    console.print("starting private RabbitMQ, PostgreSQL and Redis", highlight=False)
    async with place(Settings.load()) as where:
        for number in range(repeat):
            run = await drain(where, options)
            result.runs.append(run)
            console.print(f"run {number + 1}: {run.events_per_second:,.0f} events/s", highlight=False)
        if compare:
            console.print("baselines: COPY, a bare consumer, a plain FastStream handler", highlight=False)
            result.baselines = await baselines.all_of(where, options)
    return result
