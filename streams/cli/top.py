"""`streams top`: a live view of the running service."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer
import uvloop

from schemas.errors import ConfigurationError
from streams.cli.doctor import Apis, Management, Updaters, Workers, located, targets_of

if TYPE_CHECKING:
    from rich.console import Console

    from streams.top.watching import Watching


def top(
    worker: Workers = None,
    updater: Updaters = None,
    api: Apis = None,
    management: Management = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=60, help="Seconds between two readings.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, of one interval.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one interval's numbers as JSON.")] = False,
) -> None:
    """Watch the running service: rates, backlog, ages, batches, hit ratios, pauses, partitions, processes.

    It reads /metrics and /readyz of each process, and the depths of queues from RabbitMQ's management API if
    it knows one; so it works from any machine that reaches them. Without options or STREAMS_WORKER_URLS and
    the like, the processes of this machine are found. Keys: q quits, p pauses, s sorts queues, z changes how
    much time the sparklines show. NO_COLOR is honoured.
    """
    from rich.console import Console

    from streams.top.watching import Watching

    settings, url = located(management)
    targets = targets_of(settings, worker, updater, api)
    if not targets:
        raise ConfigurationError(
            "no process of ours runs on this machine: name them by --worker, --updater and --api, or by "
            "STREAMS_WORKER_URLS, STREAMS_UPDATER_URLS and STREAMS_API_URLS"
        )
    amqp = settings.amqp_url.get_secret_value() if settings.amqp_url else ""
    console = Console(highlight=False)

    async def run() -> None:
        vhost = unquote(urlsplit(amqp).path[1:]) or "/"
        ca = str(settings.tls_ca_file) if settings.tls_ca_file else None
        watching = Watching(targets, management=url, vhost=vhost, ca=ca)
        try:
            if json or once or not console.is_terminal:
                await _one(watching, console, interval, json=json)
            else:
                await _live(watching, console, interval)
        finally:
            await watching.close()

    uvloop.run(run())


async def _live(watching: Watching, console: Console, interval: float) -> None:
    from streams.lifecycle import stop_on_signals
    from streams.top.screen import Screen

    await Screen(watching, console, interval, stop_on_signals()).run()


async def _one(watching: Watching, console: Console, interval: float, *, json: bool) -> None:
    from streams.top.frame import Options, frame
    from streams.top.history import History

    await watching.look()
    await asyncio.sleep(interval)
    view = await watching.look()
    if json:
        json_module.dump(asdict(view), sys.stdout, indent=2)
        print()
        return
    history = History()
    history.add(view)
    options = Options(interval, clock=time.strftime("%H:%M:%S"), keys=False)
    console.print(frame(view, history, options, width=console.width, height=10_000), soft_wrap=True)
