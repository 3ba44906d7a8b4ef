"""`streams doctor`: the performance guide's checklists against the live system."""

from __future__ import annotations

import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from pydantic import SecretStr

from streams.settings import Settings
from streams.stack import LocalStack

if TYPE_CHECKING:
    from streams.scrape.target import Target
    from streams.stack import StackUrls

Workers = Annotated[list[str] | None, typer.Option("--worker", metavar="URL", help="A worker; repeatable.")]
Updaters = Annotated[
    list[str] | None, typer.Option("--updater", metavar="URL", help="An updater; repeatable.")
]
Apis = Annotated[list[str] | None, typer.Option("--api", metavar="URL", help="A read API; repeatable.")]
Management = Annotated[
    str | None, typer.Option("--management", metavar="URL", help="RabbitMQ's management API.")
]


def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="SECTION|CHECK", help="postgres, redis.big-keys, ...; repeatable."),
    ] = None,
    worker: Workers = None,
    updater: Updaters = None,
    api: Apis = None,
    management: Management = None,
    window: Annotated[
        float, typer.Option("--window", min=0, max=3600, help="Seconds between two readings of the counters.")
    ] = 5.0,
    database_cores: Annotated[
        int | None,
        typer.Option("--database-cores", min=1, help="Of the database's machine, if it is another."),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Only what is not OK.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    fix_sql: Annotated[
        bool, typer.Option("--fix-sql", help="Print SQL that would repair what was found. Runs none of it.")
    ] = False,
    catalogue: Annotated[bool, typer.Option("--list", help="Print all checks and run none.")] = False,
) -> None:
    """Examine the live system by the performance guide's checklists; changes nothing.

    Exit status: 0 nothing wrong, 1 warnings, 2 something critical (or the command cannot run). What could
    not be measured is `unknown` and changes no status.

    Servers are those of AMQP_URL, DATABASE_URL and REDIS_URL; where none is set, those of a `streams run` or
    `streams stack up` of this checkout. Processes are those of the options or of STREAMS_WORKER_URLS and the
    like, else those of this machine.
    """
    from rich.console import Console

    from streams.doctor.checks import chosen
    from streams.doctor.examination import examine
    from streams.doctor.reference import reference
    from streams.doctor.report import as_json, as_sql, as_text, exit_status

    checks = chosen(only or ())
    if catalogue:
        print(reference(checks))
        return
    settings, management_url = located(management)
    targets = targets_of(settings, worker, updater, api)
    results = uvloop.run(
        examine(settings, checks, targets, management=management_url, window=window, cores=database_cores)
    )
    if json:
        print(json_module.dumps(as_json(results), indent=2))
    elif fix_sql:
        print("\n".join(as_sql(results)))
    else:
        console = Console(highlight=False)
        width = console.width if console.is_terminal else 80
        console.print(as_text(results, width=min(width, 100), brief=brief), soft_wrap=True, end="")
    sys.stdout.flush()
    raise typer.Exit(exit_status(results))


def located(management: str | None) -> tuple[Settings, str | None]:
    """The settings, with the servers of this machine where none is named; and the management API.

    Raises:
        ConfigurationError: as `Settings.load`.
    """
    from streams.doctor.examination import management_of

    settings = Settings.load()
    stacks = _running_stacks()
    if not (settings.amqp_url or settings.database_url or settings.redis_url) and stacks:
        urls = stacks[0]
        settings = settings.model_copy(
            update={
                "amqp_url": SecretStr(urls.amqp),
                "database_url": SecretStr(urls.database),
                "redis_url": SecretStr(urls.redis),
            }
        )
    if management is not None:
        return settings, management
    return settings, management_of(settings, [(urls.amqp, urls.management) for urls in stacks])


def targets_of(
    settings: Settings, worker: list[str] | None, updater: list[str] | None, api: list[str] | None
) -> list[Target]:
    """The processes: of the options, else of the settings, else of this machine.

    Raises:
        ConfigurationError: a URL is none.
    """
    from streams.scrape.target import targets

    if worker or updater or api:
        return targets({"worker": worker or (), "updater": updater or (), "api": api or ()})
    return targets(
        {"worker": settings.worker_urls, "updater": settings.updater_urls, "api": settings.api_urls}
    )


def _running_stacks() -> list[StackUrls]:
    """Of this checkout: that of `streams run` first."""
    names = sorted(LocalStack.names(), key=lambda name: (name != "run", name != "dev", name))
    found = (LocalStack(name).status() for name in names)
    return [status.urls for status in found if status.state == "up" and status.urls is not None]
