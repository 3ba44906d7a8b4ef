"""`streams migrate`: bring the database's schema up to date."""

from __future__ import annotations

import asyncio
import json as json_module
from typing import Annotated

import typer


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if something is pending.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Apply pending migrations to DATABASE_URL, then make partitions ahead.

    Further folders of migrations come from STREAMS_MIGRATIONS. Many processes may do this at once.
    """
    from streams import migrations
    from streams.settings import Settings, require

    settings = Settings.load()
    dsn = require(settings.database_url, "DATABASE_URL")
    command = migrations.pending if check else migrations.migrate
    names = asyncio.run(command(dsn, settings.migration_sources))
    if json:
        print(json_module.dumps({"pending" if check else "applied": names}))
    else:
        print("\n".join(names) if names else "The schema is up to date.")
    if check and names:
        raise typer.Exit(1)
