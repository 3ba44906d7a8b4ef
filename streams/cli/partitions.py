"""`streams partitions plan|apply`: look at the partitions, or make and retire them now."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from streams.partitions import Applied, Connection, Plan

T = TypeVar("T")

app = typer.Typer(help="Partitions by month and by de-duplication window.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("plan")
def show_plan(json: AsJson = False) -> None:
    """Show what `apply` would do. Changes nothing; exit status 1 if there is something to do."""
    from streams import partitions

    plan = _run(partitions.plan)
    print(_as_json(plan) if json else _as_text(plan))
    if not plan.is_done:
        raise typer.Exit(1)


@app.command("apply")
def apply_plan(json: AsJson = False) -> None:
    """Make what is missing, detach (and drop, where the registry says so) what has expired.

    Retiring takes the rights of the tables' owner. Exit status 1 if something was left undone.
    """
    from streams import partitions

    done = _run(partitions.apply)
    print(json_module.dumps(asdict(done)) if json else _changes(done))
    if done.left:
        raise typer.Exit(1)


def _run(command: Callable[[Connection], Awaitable[T]]) -> T:
    return asyncio.run(_with_connection(command))


async def _with_connection(command: Callable[[Connection], Awaitable[T]]) -> T:
    import asyncpg

    from schemas.errors import ConfigurationError
    from streams.database import connect
    from streams.settings import Settings, require

    connection = await connect(require(Settings.load().database_url, "DATABASE_URL"))
    try:
        return await command(connection)
    except asyncpg.UndefinedFunctionError as error:
        raise ConfigurationError("the database is not migrated: run `streams migrate`") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(f"this user may not do that: {error}") from error
    finally:
        await connection.close()


def _as_json(plan: Plan) -> str:
    document: dict[str, Any] = {
        "ahead": dict(plan.ahead),
        "create": [asdict(partition) for partition in plan.create],
        "detach": [asdict(partition) for partition in plan.detach],
        "drop": [asdict(partition) for partition in plan.drop],
    }
    return json_module.dumps(document, default=str)


def _as_text(plan: Plan) -> str:
    lines = [f"{table:<20} {periods:>3} ahead" for table, periods in sorted(plan.ahead.items())]
    lines += [f"create  {p.name}  [{p.starts:%Y-%m-%d}, {p.ends:%Y-%m-%d})" for p in plan.create]
    lines += [
        f"{'drop  ' if p.drop else 'detach'}  {p.name}  [{p.starts:%Y-%m-%d}, {p.ends:%Y-%m-%d})"
        for p in plan.retire
    ]
    return "\n".join(lines if not plan.is_done else [*lines, "Nothing to do."])


def _changes(done: Applied) -> str:
    changes = {"created": done.created, "detached": done.detached, "dropped": done.dropped, "left": done.left}
    lines = [f"{verb:<8}  {name}" for verb, names in changes.items() for name in names]
    return "\n".join(lines) or "Nothing to do."
