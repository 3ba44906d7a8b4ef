"""`streams publish`: send events from lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_module
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from streams.producer import Producer
    from streams.producer.lines import Checker, Report
    from streams.producer.sources import Lines
    from streams.settings import Settings

INVALID: Final = 1
UNCONFIRMED: Final = 3
INTERRUPTED: Final = 130

Input = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Standard input if not given, or -.")]
Source = Annotated[str, typer.Option(help="Source of the lines that name none.")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, max=5000, help="Events per message.")]
Rate = Annotated[float | None, typer.Option(min=0.001, help="Events per second; unlimited if not given.")]
FromLine = Annotated[int, typer.Option(min=1, help="Begin at this line, to go on after a failure.")]
SkipInvalid = Annotated[bool, typer.Option("--skip-invalid", help="Leave invalid lines out, send the rest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check every line, send nothing.")]
MaxErrors = Annotated[int, typer.Option(min=1, help="List so many errors; all are counted.")]
Wait = Annotated[float, typer.Option(min=0.1, help="Seconds within which an event must be confirmed.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def publish(
    file: Input = None,
    source: Source = "streams-publish",
    batch: BatchSize = 100,
    rate: Rate = None,
    from_line: FromLine = 1,
    skip_invalid: SkipInvalid = False,
    dry_run: DryRun = False,
    max_errors: MaxErrors = 20,
    wait: Wait = 30.0,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Publish events to AMQP_URL, one a line: a whole CloudEvent, or {"type": .., "data": ..}.

    Id, time and source are filled in where a line lacks them; lines with ids of their own can be sent again
    without harm. Every line is checked as the service would, before anything is sent: a file is read twice,
    and nothing of it is sent if one line is invalid. A pipe is checked and sent in chunks of up to 1,000
    lines, and ends at the first chunk with an invalid line, of which nothing is sent.

    Exit status: 0 all confirmed (in a dry run: valid), 1 invalid lines, 2 could not begin, 3 some events are
    not confirmed, 130 interrupted.
    """
    from streams.producer.lines import Report
    from streams.producer.sources import opened
    from streams.settings import Settings

    settings = Settings.load()
    checker = _checker(settings, source)
    report, interrupted = Report(max_errors), False
    with opened(file, settings.max_message_bytes, from_line) as lines:
        if dry_run or lines.twice:
            for _ in checker.check(lines.read(), report):
                pass
        if not dry_run and (skip_invalid or not report.invalid):
            producer = _producer(settings, source, batch, wait)
            total, report = report.valid if lines.twice else None, Report(max_errors)
            sending = _send(producer, lines, checker, report, skip_invalid, rate, total, quiet=quiet or json)
            interrupted = asyncio.run(sending)
    print(_as_json(report) if json else _as_text(report, dry_run=dry_run))
    if report.failed:
        raise typer.Exit(UNCONFIRMED)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.invalid and (dry_run or not skip_invalid):
        raise typer.Exit(INVALID)


def _checker(settings: Settings, source: str) -> Checker:
    from schemas.envelope import Event
    from streams.decode import Window
    from streams.producer.events import FAMILIES, Catalogue
    from streams.producer.lines import Checker

    window = Window(settings.retention, settings.clock_skew)

    def inside(event: Event) -> None:
        window.check(event, datetime.now(UTC))

    return Checker(Catalogue(FAMILIES, source), inside, settings.max_message_bytes)


def _producer(settings: Settings, source: str, batch: int, wait: float) -> Producer:
    from streams.producer import Batching, Producer
    from streams.settings import require

    return Producer(
        require(settings.amqp_url, "AMQP_URL"),
        source=source,
        wait=wait,
        close_wait=wait,
        batching=Batching(size=batch) if batch > 1 else None,
        max_event_bytes=settings.max_message_bytes,
        name="streams publish",
    )


async def _send(
    producer: Producer,
    lines: Lines,
    checker: Checker,
    report: Report,
    skip_invalid: bool,
    rate: float | None,
    total: int | None,
    *,
    quiet: bool,
) -> bool:
    """Send what is valid; whether Ctrl-C ended it."""
    from streams.lifecycle import stop_on_signals
    from streams.producer import NotConfirmed
    from streams.producer.lines import send_lines

    await producer.start()
    stop = stop_on_signals()
    started = asyncio.get_running_loop().time()
    async with _progress(report, total, quiet=quiet):
        try:
            await send_lines(
                producer, lines.chunks(stop), checker, report, skip_invalid=skip_invalid, rate=rate, stop=stop
            )
        finally:
            with contextlib.suppress(NotConfirmed):  # the report has each of them, by its line
                await producer.close()
            report.seconds = asyncio.get_running_loop().time() - started
    return stop.is_set()


@contextlib.asynccontextmanager
async def _progress(report: Report, total: int | None, *, quiet: bool) -> AsyncIterator[None]:
    """A bar on standard error while events are sent, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "confirmed", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)

        async def draw() -> None:
            while True:
                bar.update(task, completed=report.confirmed)
                await asyncio.sleep(0.2)

        drawing = asyncio.create_task(draw())
        try:
            yield
        finally:
            drawing.cancel()
            bar.update(task, completed=report.confirmed)


def _as_json(report: Report) -> str:
    document: dict[str, Any] = asdict(report)
    del document["limit"]
    return json_module.dumps(document)


def _as_text(report: Report, *, dry_run: bool) -> str:
    lines = [f"line {problem.line}: {problem.message}" for problem in report.problems]
    if report.invalid > len(report.problems):
        lines.append(f"... and {report.invalid - len(report.problems)} more invalid lines")
    lines += [f"line {f.line}: not confirmed: {f.message} (id {f.event_id})" for f in report.failures]
    if report.failed > len(report.failures):
        lines.append(f"... and {report.failed - len(report.failures)} more that are not confirmed")
    summary = f"{report.lines} lines: {report.valid} valid, {report.invalid} invalid"
    if dry_run or not report.sent:
        return "\n".join([*lines, f"{summary}; nothing was sent"])
    rate = f", {report.confirmed / report.seconds:,.0f}/s" if report.seconds else ""
    sent = f"{report.sent} sent, {report.confirmed} confirmed, {report.failed} not{rate}"
    return "\n".join([*lines, f"{summary}; {sent}"])
