"""`streams dlq list|show|replay|drop`: dead letters, looked at and dealt with."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import uvloop

from schemas.errors import ConfigurationError, Reason

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from streams.dlq.letter import Letter
    from streams.dlq.replay import Outcome, Progress
    from streams.dlq.report import Listing
    from streams.dlq.select import Selection

T = TypeVar("T")

app = typer.Typer(help="Dead letters: look at them, replay them, drop them.", no_args_is_help=True)

_SHOWN_BYTES = 16 * 1024

Reasons = Annotated[list[Reason] | None, typer.Option("--reason", help="Only these reasons.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only these event types.")]
Queues = Annotated[list[str] | None, typer.Option("--queue", help="Only what these queues refused.")]
Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Letters by (the beginning of) their id, or by event id.")
]
Since = Annotated[str | None, typer.Option("--since", help="Quarantined since: 2h, 7d or 2026-01-31T12:00.")]
Until = Annotated[str | None, typer.Option("--until", help="Quarantined before: likewise.")]
Every = Annotated[bool, typer.Option("--all", help="All letters. Needed where no condition is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="This many letters at most.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("list")
def list_letters(
    reason: Reasons = None,
    type_: Types = None,
    queue: Queues = None,
    id_: Ids = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Rows; all letters are counted.")] = 20,
    json: AsJson = False,
) -> None:
    """Show what lies in quarantine, the oldest first. Changes nothing, and shows no payload."""
    from rich.console import Console

    from streams.dlq.report import listing_as_json, listing_table

    selection = _selection(reason, type_, queue, id_, since, until)
    listing = _run(lambda connection: _list(connection, selection, limit))
    if json:
        print(json_module.dumps(listing_as_json(listing)))
    else:
        Console(highlight=False).print(listing_table(listing, datetime.now(UTC)))


@app.command("show")
def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="The letter's id or the beginning of it, or the event's id.")
    ],
    full: Annotated[bool, typer.Option("--full", help="All of a large payload.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The payload alone, byte for byte, for a file.")] = False,
    json: AsJson = False,
) -> None:
    """Show one letter with its headers and its payload. Exit status 1 if there is none, or more than one.

    What could control a terminal is escaped, except by --raw, which refuses to write to one.
    """
    from rich.console import Console

    from streams.dlq.report import as_json, letter_details, letter_payload

    if raw and sys.stdout.isatty():
        raise ConfigurationError("--raw writes bytes as they are: redirect it to a file")
    found = _run(lambda connection: _find(connection, letter_id))
    if len(found) != 1:
        some = ", ".join(str(letter.id) for letter in found[:5])
        print(f"streams: {some or 'no letter'} has this id: {letter_id!r}", file=sys.stderr)
        raise typer.Exit(1)
    letter = found[0]
    if raw:
        sys.stdout.buffer.write(letter.body)
    elif json:
        print(json_module.dumps(as_json(letter, with_payload=True)).replace("\x7f", "\\u007f"))
    else:
        console = Console(highlight=False)
        console.print(letter_details(letter))
        console.print(letter_payload(letter, None if full else _SHOWN_BYTES), soft_wrap=True)


@app.command("replay")
def replay(
    reason: Reasons = None,
    type_: Types = None,
    queue: Queues = None,
    id_: Ids = None,
    since: Since = None,
    until: Until = None,
    every: Every = False,
    limit: Limit = None,
    rate: Annotated[float | None, typer.Option("--rate", min=0.01, help="Letters per second.")] = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Send letters back where they came from, and remove each once the broker has confirmed it.

    May be repeated, and stopped at any moment: de-duplication sees to it that an event has one effect.
    Exit status 1 if letters stay because they could not be sent.
    """
    from streams.dlq.replay import Replayer, drop

    selection = _explicit(_selection(reason, type_, queue, id_, since, until), every=every)

    async def work(connection: AbstractConnection) -> Outcome:
        if dry_run:
            return await drop(connection, selection, limit=limit, dry_run=True)
        replayer = Replayer(
            connection, selection, rate=rate, limit=limit, progress=_progress("replayed", quiet=json)
        )
        return await _reported(replayer.run(), lambda: replayer.outcome, "replayed", json=json)

    outcome = _run(work)
    _report(outcome, "would be replayed" if dry_run else "replayed", json=json)
    if outcome.failed:
        raise typer.Exit(1)


@app.command("drop")
def drop_letters(
    reason: Reasons = None,
    type_: Types = None,
    queue: Queues = None,
    id_: Ids = None,
    since: Since = None,
    until: Until = None,
    every: Every = False,
    limit: Limit = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Remove letters for good. Asks first, unless told --yes. Exit status 1 if the answer is no."""
    from streams.dlq.replay import drop

    selection = _explicit(_selection(reason, type_, queue, id_, since, until), every=every)
    if dry_run or not yes:
        outcome = _run(lambda connection: drop(connection, selection, limit=limit, dry_run=True))
        _report(outcome, "would be dropped", json=json and dry_run)
        if dry_run or not outcome.total:
            return
        typer.confirm(f"Drop these {outcome.total} letters for good?", abort=True)
    progress = _progress("dropped", quiet=json)
    outcome = _run(lambda connection: drop(connection, selection, limit=limit, progress=progress))
    _report(outcome, "dropped", json=json)


def _selection(
    reasons: list[Reason] | None,
    types: list[str] | None,
    queues: list[str] | None,
    ids: list[str] | None,
    since: str | None,
    until: str | None,
) -> Selection:
    from streams.dlq.select import Selection, parse_time

    return Selection(
        reasons=tuple(map(str, reasons or ())),
        types=tuple(types or ()),
        queues=tuple(queues or ()),
        ids=tuple(ids or ()),
        since=None if since is None else parse_time(since),
        until=None if until is None else parse_time(until),
    )


def _explicit(selection: Selection, *, every: bool) -> Selection:
    if selection.is_everything and not every:
        raise ConfigurationError("which letters? give --reason, --type, --queue, --id, --since or --all")
    return selection


def _run(command: Callable[[AbstractConnection], Awaitable[T]]) -> T:
    return uvloop.run(_with_connection(command))


async def _with_connection(command: Callable[[AbstractConnection], Awaitable[T]]) -> T:
    from streams.dlq.browse import connected
    from streams.settings import Settings, require

    async with connected(require(Settings.load().amqp_url, "AMQP_URL")) as connection:
        return await command(connection)


async def _list(connection: AbstractConnection, selection: Selection, limit: int) -> Listing:
    from streams.dlq.browse import Browser
    from streams.dlq.report import Listing

    listing = Listing(limit)
    async with Browser(connection, selection) as browser:
        async for held in browser.letters():
            if held.is_meant:
                listing.add(held.letter)
        listing.others = browser.others
    return listing


async def _find(connection: AbstractConnection, name: str) -> list[Letter]:
    from streams.dlq.browse import Browser
    from streams.dlq.select import Selection

    found: dict[Any, Letter] = {}
    async with Browser(connection, Selection(ids=(name,)), bodies=True) as browser:
        async for held in browser.letters():
            if held.is_meant:
                found[held.letter.id] = held.letter
    return list(found.values())


async def _reported(
    work: Awaitable[Outcome], outcome: Callable[[], Outcome], verb: str, *, json: bool
) -> Outcome:
    """The outcome; what was done so far is told, however the work ends."""
    try:
        return await work
    except BaseException:
        _report(outcome(), verb, json=json)
        raise


def _progress(verb: str, *, quiet: bool) -> Progress | None:
    """A line on a terminal that counts; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        return None

    def show(outcome: Outcome) -> None:
        if outcome.total % 100 == 0:
            print(f"\r{outcome.total:,} {verb} ", end="", file=sys.stderr, flush=True)

    return show


def _report(outcome: Outcome, verb: str, *, json: bool) -> None:
    from streams.dlq.text import printable

    if json:
        document = {
            "total": outcome.total,
            "reasons": dict(outcome.done),
            "failed": dict(outcome.failed),
            "returned": outcome.returned,
        }
        print(json_module.dumps(document))
        return
    for reason, count in outcome.done.most_common():
        print(f"{count:>9,}  {printable(reason)}")
    print(f"{outcome.total:>9,}  {verb}")
    for why, count in outcome.failed.items():
        print(f"{count:>9,}  stay in quarantine: {printable(why)}")
    if outcome.returned:
        print(f"{outcome.returned:>9,}  were refused again meanwhile: see `streams dlq list`")
