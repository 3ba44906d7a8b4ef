"""`streams topology apply|check`: what must exist in RabbitMQ before processes without that right start."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from streams.topology import Topology

T = TypeVar("T")

app = typer.Typer(help="Exchanges, queues and bindings of STREAMS_HANDLERS.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("apply")
def apply(json: AsJson = False) -> None:
    """Declare all exchanges, queues and bindings at AMQP_URL. Does nothing where they exist already."""
    from streams.declare import declare

    url, topology = _wanted()
    _run(declare(url, topology))
    _report(topology, "", json=json)


@app.command("check")
def check(json: AsJson = False) -> None:
    """See whether all exchanges and queues are there. Exit status 1 if not."""
    from streams.declare import find_missing

    url, topology = _wanted()
    missing = _run(find_missing(url, topology))
    _report(topology, missing, json=json)
    if missing:
        raise typer.Exit(1)


def _wanted() -> tuple[str, Topology]:
    from streams.registry import load_subscriptions
    from streams.settings import Settings, require

    settings = Settings.load()
    return require(settings.amqp_url, "AMQP_URL"), Topology.of(load_subscriptions(settings.handlers))


def _run(work: Coroutine[Any, Any, T]) -> T:
    from aio_pika.exceptions import AMQPError

    from schemas.errors import ConfigurationError
    from streams.refusal import explain

    try:
        return asyncio.run(work)
    except (OSError, AMQPError) as error:
        raise ConfigurationError(f"cannot connect to RabbitMQ: {explain(error) or error}") from error


def _report(topology: Topology, missing: str, *, json: bool) -> None:
    exchanges = [exchange.name for exchange in topology.exchanges]
    queues = [queue.name for queue in topology.queues]
    if json:
        print(json_module.dumps({"exchanges": exchanges, "queues": queues, "missing": missing or None}))
    elif missing:
        print(f"{missing} is missing: run `streams topology apply`")
    else:
        print(f"exchanges  {', '.join(exchanges)}\nqueues     {', '.join(queues)}")
