"""`streams verify`: what is stored against the ledger of a demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    ledger: Annotated[Path, typer.Option(help="The ledger that `streams demo` left behind.")],
    api: Annotated[
        str | None, typer.Option(help="Base URL of the read API, to check the caches, too.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Check every event and every row again, against DATABASE_URL (and AMQP_URL, for quarantine).

    Exit status: 0 if everything agrees, 1 if not, 2 if it could not be looked at.
    """
    from streams.demo.setup import run_verify

    raise typer.Exit(run_verify(ledger, api, as_json=json))
