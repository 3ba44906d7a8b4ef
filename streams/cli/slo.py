"""`streams slo`: the guide's goals, filled from metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams.scrape.target import targets
from streams.settings import Settings
from streams.slo import Measured, Row, Verdict, from_processes, from_prometheus, judge

_COLORS = {Verdict.MET: "green", Verdict.MISSED: "red", Verdict.IDLE: "yellow", Verdict.UNKNOWN: "dim"}


def slo(
    worker: Annotated[list[str] | None, typer.Option(help="URL of a worker; may be repeated.")] = None,
    updater: Annotated[list[str] | None, typer.Option(help="URL of an updater; may be repeated.")] = None,
    api: Annotated[list[str] | None, typer.Option(help="URL of a read API; may be repeated.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Measure for so long; unset: all that was since the processes started."),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="Ask this Prometheus instead of the processes.")
    ] = None,
    window: Annotated[str, typer.Option(help="With --prometheus: how far back, as in 15m, 1h, 7d.")] = "1h",
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Compare what is measured with the objectives.

    Without URLs it reads those of STREAMS_*_URLS or the processes of this machine. Exit code 1: one of the
    guide's goals is missed; 2: nobody answers.
    """
    if prometheus is not None:
        measured = asyncio.run(from_prometheus(prometheus, window))
    else:
        settings = Settings.load()
        found = targets(
            {
                "worker": worker or settings.worker_urls,
                "updater": updater or settings.updater_urls,
                "api": api or settings.api_urls,
            }
        )
        measured = asyncio.run(from_processes(found, seconds))
    rows = judge(measured.numbers)
    if as_json:
        print(json.dumps(_document(rows, measured), indent=2))
    else:
        _show(rows, measured)
    if any(row.verdict is Verdict.MISSED for row in rows):
        raise typer.Exit(1)


def _document(rows: Sequence[Row], measured: Measured) -> dict[str, Any]:
    return {
        "seconds": round(measured.seconds, 1),
        "processes": measured.processes,
        "silent": measured.silent,
        "objectives": {
            row.objective.name: {
                "value": row.value,
                "goal": row.objective.goal,
                "verdict": None if row.objective.goal is None else row.verdict,
                "design": row.objective.design,
                "design_verdict": row.design,
            }
            for row in rows
        },
    }


def _show(rows: Sequence[Row], measured: Measured) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("objective", "goal", "measured", "", "design", ""):
        table.add_column(heading, justify="left" if heading in ("objective", "") else "right")
    for row in rows:
        own = row.objective
        table.add_row(
            own.title,
            _limit(row, own.goal),
            "-" if row.value is None else own.show(row.value),
            "" if own.goal is None else _verdict(row.verdict),
            _limit(row, own.design),
            "" if row.design is None else _verdict(row.design),
        )
    console = Console()
    console.print(table)
    for line in measured.silent:
        console.print(f"no answer: {line}", markup=False, highlight=False)
    console.print(f"{measured.processes} processes, {measured.seconds:,.0f} s", highlight=False)


def _limit(row: Row, limit: float | None) -> str:
    return "" if limit is None else f"{'>=' if row.objective.least else '<='} {row.objective.show(limit)}"


def _verdict(verdict: Verdict) -> str:
    return f"[{_COLORS[verdict]}]{verdict}[/]"
