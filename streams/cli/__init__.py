"""The command line: one file per command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from schemas.errors import StreamsError
from streams.lifecycle import REFUSED
from streams.stack import StackError

if TYPE_CHECKING:
    import typer

_ROLES: Final = ("worker", "updater", "api")


def main() -> None:
    """Entry point of the `streams` command: errors we raise on purpose are one line, exit code 2."""
    try:
        _commands()(prog_name="streams")
    except (StreamsError, StackError) as error:
        print(f"streams: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None


def _commands() -> typer.Typer:
    """What a role does not need would stay in its memory for as long as it runs: 15 MB of other commands."""
    if sys.argv[1:2] and sys.argv[1] in _ROLES:
        from streams.cli.roles import app
    else:
        from streams.cli.commands import app
    return app
