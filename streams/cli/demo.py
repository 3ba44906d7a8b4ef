"""`streams demo`: the whole service at work on the events of seven simulated agents, and the proof."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    events: Annotated[
        int, typer.Option(min=100, max=2_000_000, help="Events to publish, at least.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="What the agents do; the same seed, the same story.")] = 1,
    rate: Annotated[float, typer.Option(min=10, max=50_000, help="Events per second.")] = 500,
    reads: Annotated[float, typer.Option(min=1, max=5_000, help="Reads of the API per second.")] = 50,
    rest: Annotated[float, typer.Option(min=1, help="Seconds that the service has to come to rest.")] = 40,
    json: Annotated[
        bool, typer.Option("--json", help="The report as JSON on stdout, progress on stderr.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the private servers running for a look.")
    ] = False,
) -> None:
    """Publish a realistic stream through the whole service and check every row against the ledger.

    Uses AMQP_URL, DATABASE_URL and REDIS_URL if all three are set, else private servers of its own.
    Exit status: 0 if everything agrees, 1 if not, 2 if it could not be set up.
    """
    from streams.demo.run import Options
    from streams.demo.setup import run_demo

    raise typer.Exit(run_demo(Options(events, seed, rate, reads, rest), as_json=json, keep=keep))
