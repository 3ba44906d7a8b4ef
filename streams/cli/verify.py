"""`streams verify`: what is stored against the ledger of a demo; what is cached against what is stored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def verify(
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger that `streams demo` left behind, checked once.")
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Check the caches beside the load for so long: 60s, 5m."),
    ] = None,
    api: Annotated[
        list[str] | None,
        typer.Option(help="Base URL of the read API, to check the caches; of several processes: repeat it."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Invalidations sampled per second by --watch.")
    ] = 10,
    after: Annotated[
        list[float] | None, typer.Option(min=0.01, max=600, help="Seconds; 0.1, 1 and 10 if not given.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Share that must be consistent after 1 s, of each kind.")
    ] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """With --ledger: check every event and every row again, against DATABASE_URL (and AMQP_URL, for
    quarantine).

    With --watch: hear what is invalidated (AMQP_URL), read it through the API as a client would (bearer
    token: STREAMS_API_TOKEN), compare it with the primary (DATABASE_URL), and report the share that is
    consistent after 0.1, 1 and 10 s. docs/consistency.md says how to read the report.

    Exit status: 0 if everything agrees, 1 if not, 2 if it could not be looked at.
    """
    if (ledger is None) == (watch is None):
        raise typer.BadParameter("give either --ledger or --watch")
    if watch is not None:
        from streams.checker.command import run_watch
        from streams.checker.watch import DELAYS

        delays, seconds = tuple(sorted(after or DELAYS)), _seconds(watch)
        raise typer.Exit(
            run_watch(api or [], seconds, rate=rate, delays=delays, threshold=threshold, as_json=json)
        )
    from streams.demo.setup import run_verify

    assert ledger is not None
    if api and len(api) > 1:
        raise typer.BadParameter("a ledger is checked through one --api")
    raise typer.Exit(run_verify(ledger, api[0] if api else None, as_json=json))


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter("--watch takes a time such as 60s or 5m")
    return float(found[1]) * _UNITS[found[2]]
