"""`streams cache warm|rebuild|show`: what stands in Redis, filled and looked at."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.cache import Period
from schemas.errors import ConfigurationError, LockTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = typer.Typer(help="Caches: warm them, build leaderboards anew, look at a key.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("rebuild")
def rebuild(
    period: Annotated[Period | None, typer.Argument(help="All of them unless one is named.")] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for a build under way.")] = 30.0,
    json: AsJson = False,
) -> None:
    """Build leaderboards anew from PostgreSQL while updates go on; readers keep the old ones until then.

    Exit status: 0 if all were built, 1 if somebody else was building one for longer than --wait.
    """
    built, taken = asyncio.run(_rebuild(period, wait))
    if json:
        print(json_module.dumps({"built": built, "taken": taken}))
    raise typer.Exit(1 if taken else 0)


async def _rebuild(period: Period | None, wait: float) -> tuple[dict[str, int], list[str]]:
    from datetime import UTC, datetime

    from handlers.board_builds import build
    from handlers.board_store import BoardStore
    from handlers.boards import boards_at
    from streams.locks import Locks

    built: dict[str, int] = {}
    taken: list[str] = []
    async with _servers() as (pool, redis):
        for board in boards_at(datetime.now(UTC)):
            if period not in (None, board.period):
                continue
            name = board.name
            try:
                agents = await build(
                    pool, BoardStore(redis), Locks(redis), board, wait=wait,
                    progress=lambda count, name=name: _say(f"{name}: {count} agents", end="\r"),  # type: ignore[misc]
                )  # fmt: skip
            except LockTaken:
                taken.append(name)
                _say(f"{name}: somebody else is building it")
            else:
                built[name] = agents
                _say(f"{name}: {agents} agents, built")
    return built, taken


def _say(text: str, end: str = "\n") -> None:
    """Progress, beside the report."""
    if end == "\n" or sys.stderr.isatty():
        print(f"{text:<60}", end=end, file=sys.stderr, flush=True)


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[Any, Any]]:
    """A pool on the primary, and Redis.

    Raises:
        ConfigurationError: a URL is missing, or a server does not answer.
    """
    import asyncpg
    from redis.exceptions import RedisError

    from streams.cache import connect_redis
    from streams.database import Database
    from streams.refusal import reason
    from streams.settings import Settings, require

    settings = Settings.load()
    database = Database(settings, "cli")
    redis = connect_redis(require(settings.redis_url, "REDIS_URL"), "cli", timeout=10.0)
    try:
        await database.connect()
        yield database.pool, redis
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(f"PostgreSQL does not answer: {reason(error)}") from error
    except RedisError as error:
        raise ConfigurationError(f"Redis does not answer: {reason(error)}") from error
    finally:
        await redis.aclose()
        await database.close()
