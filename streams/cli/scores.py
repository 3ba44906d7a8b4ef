"""`streams scores`: recount scores and reputations from the stored rows."""

from __future__ import annotations

import asyncio
import json as json_module
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from handlers.recount import Difference

OLDEST_SCORE = "SELECT min(day) FROM agent_scores"


def scores(
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Leave days before this one alone.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Store the recount.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Compare scores and reputations with what tasks, votes and decisions say, and report every difference.

    Exit status: 0 if everything agrees (or was repaired), 1 if not.
    """
    differences = asyncio.run(_recount(since.date() if since else None, repair=repair))
    if json:
        print(json_module.dumps({"repaired": repair, "differences": [_plain(d) for d in differences]}))
    elif not differences:
        print("Scores and reputations agree with the stored rows.")
    else:
        for difference in differences:
            what = f"day {difference.day}" if difference.day else "reputation"
            print(
                f"{difference.agent_id} {what}: {difference.stored} stored, {difference.recounted} recounted"
            )
        print(f"{len(differences)} differences{', repaired' if repair else '; --repair stores the recount'}")
    if differences and not repair:
        raise typer.Exit(1)


async def _recount(since: date | None, *, repair: bool) -> list[Difference]:
    from handlers.recount import recompute
    from streams import partitions
    from streams.database import connect
    from streams.settings import Settings, require

    connection = await connect(require(Settings.load().database_url, "DATABASE_URL"))
    try:
        oldest = await connection.fetchval(OLDEST_SCORE)
        floor = (await partitions.floor(connection)).astimezone(UTC).date()
        if since is None and oldest is not None and oldest < floor:
            raise ConfigurationError(
                f"scores go back to {oldest}, but rows before {floor} are not kept: name a day with --since, "
                "late enough that all its tasks and votes are there"
            )
        async with connection.transaction():
            return await recompute(connection, since or date.min, repair=repair)
    finally:
        await connection.close()


def _plain(difference: Difference) -> dict[str, Any]:
    return {
        "agent_id": str(difference.agent_id),
        "day": difference.day.isoformat() if difference.day else None,
        "stored": difference.stored,
        "recounted": difference.recounted,
    }
