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


@app.command("warm")
def warm(
    rows: Annotated[int, typer.Option("--rows", min=1, help="Sessions, and agents, at most.")] = 5_000,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Stop after this long.")] = 30.0,
    json: AsJson = False,
) -> None:
    """Fill the caches with what readers ask for first: leaderboards, active sessions, active agents.

    Exit status: 0 if all of it was done, 1 if not (time was up, or another process is at it).
    """
    report = asyncio.run(_warm(rows, seconds))
    if json:
        print(json_module.dumps(report))
    else:
        print(
            f"{report['sessions']} sessions, {report['agents']} agents, {len(report['leaderboards'])} "
            f"leaderboards in {report['seconds']} s: {report['ended']}"
        )
    raise typer.Exit(0 if report["ended"] == "done" else 1)


@app.command("show")
def show(
    key: Annotated[str, typer.Argument(help="A key of Redis, or a leaderboard's period.")],
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="A tag it was filled under, if its name does not say."),
    ] = None,
    value: Annotated[bool, typer.Option("--value", help="Show the value, too.")] = False,
    json: AsJson = False,
) -> None:
    """Show what stands under a key: its kind, size, age and times, and whether a reader would take it.

    What processes hold in memory cannot be seen from here. Exit status: 0, or 1 if nothing stands there.
    """
    found = asyncio.run(_show(key, tag or [], with_value=value))
    if json:
        print(json_module.dumps(found))
    else:
        for name, shown in found.items():
            print(f"{name:<20} {'unknown' if shown is None else shown}")
    raise typer.Exit(1 if found["kind"] == "nothing" else 0)


async def _show(key: str, tags: list[str], *, with_value: bool) -> dict[str, Any]:
    from redis.exceptions import RedisError

    from streams.cache import connect_redis
    from streams.cli.cache_show import describe
    from streams.refusal import reason
    from streams.settings import Settings, require

    redis = connect_redis(require(Settings.load().redis_url, "REDIS_URL"), "cli")
    try:
        return await describe(redis, key, tags, with_value=with_value)
    except RedisError as error:
        raise ConfigurationError(f"Redis does not answer: {reason(error)}") from error
    finally:
        await redis.aclose()


async def _warm(rows: int, seconds: float) -> dict[str, Any]:
    from handlers.warming import Bounds, Warmer
    from streams.cache import Cache
    from streams.locks import Locks

    async with _servers() as (pool, redis):
        warmer = Warmer(pool, Cache(redis), redis, Locks(redis), Bounds(rows=rows, seconds=seconds))
        report = await warmer.run(lambda what, done, of: _say(f"{what}: {done} of {of}"))
        return report.as_json()


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
    from streams.telemetry import configure_logging

    settings = Settings.load()
    configure_logging("WARNING")
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
