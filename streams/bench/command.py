"""From the command line to a result."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvloop
from rich.console import Console

from streams.bench import baselines, everything
from streams.bench.finding import Findings
from streams.bench.hops import hops
from streams.bench.measure import measure_drain, measure_loads
from streams.bench.openloop import Load
from streams.bench.options import By, Options
from streams.bench.place import Place, place
from streams.bench.report import show, show_findings
from streams.bench.results import Result
from streams.bench.scaling import VALUES, vary
from streams.settings import Settings
from streams.telemetry import configure_logging

T = TypeVar("T")


def run_drain(kind: str, options: Options, repeat: int, *, compare: bool, as_json: bool) -> int:
    """Measure, report; returns the exit status: 0, or 1 if something was not stored as it should be.

    Raises:
        StreamsError, StackError: it could not be measured.
    """
    console = _console(as_json)
    against = baselines.all_of if compare else None
    result = _placed(lambda where: measure_drain(where, kind, options, repeat, against, console), console)
    if as_json:
        _write(result)
    else:
        show(console, result)
    return 0 if result.ok else 1


def run_loads(kind: str, loads: Mapping[str, Load], repeat: int, *, as_json: bool) -> int:
    """Measure open loops, one after another; several are told apart by a prefix of their figures."""
    console = _console(as_json)
    findings = _placed(lambda where: measure_loads(where, kind, loads, repeat, console), console)
    return _tell(findings, console, as_json=as_json)


def run_scaling(by: By, options: Options, repeat: int, *, as_json: bool) -> int:
    """Drain with one thing varied."""
    console = _console(as_json)
    findings = _placed(lambda where: vary(where, by, options, VALUES[by], repeat, console), console)
    return _tell(findings, console, as_json=as_json)


def run_hops(options: Options, out: Path, *, as_json: bool) -> int:
    """What each hop costs; the profile behind it goes to `out`."""
    console = _console(as_json)
    finding = _placed(lambda where: hops(where, options, out), console)
    status = _tell(Findings("hops", options.as_json(), [finding]), console, as_json=as_json)
    if not as_json:
        console.print(f"collapsed stacks: {out}", highlight=False)
    return status


def run_report(docs: Path, only: list[str], *, quick: bool) -> int:
    """Measure everything and write the page."""
    sizes = everything.QUICK if quick else everything.FULL
    return 0 if _run(everything.report(sizes, docs, only, _console(False))) else 1


def _console(as_json: bool) -> Console:
    configure_logging("WARNING", json=False)
    return Console(stderr=as_json)


def _tell(findings: Findings, console: Console, *, as_json: bool) -> int:
    if as_json:
        _write(findings)
    else:
        show_findings(console, findings)
    return 0 if findings.ok else 1


def _placed(measure: Callable[[Place], Coroutine[Any, Any, T]], console: Console) -> T:
    """Measure on private servers."""

    async def work() -> T:
        console.print("starting private RabbitMQ, PostgreSQL and Redis", highlight=False)
        async with place(Settings.load()) as where:
            return await measure(where)

    return _run(work())


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _write(result: Result | Findings) -> None:
    sys.stdout.write(orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
