"""What a run stands on: servers of its own or given ones, migrations, a folder, signals."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvloop
from rich.console import Console

from streams.demo import report
from streams.demo.ledger import Ledger
from streams.demo.report import Report
from streams.demo.run import Options, Place, Run, brokered, connected
from streams.demo.verify import Verdict, verify
from streams.migrations import migrate
from streams.registry import load_subscriptions
from streams.settings import Settings, require
from streams.stack import LocalStack
from streams.telemetry import configure_logging

INTERRUPTED = 130

T = TypeVar("T")


def run_demo(options: Options, *, as_json: bool, keep: bool) -> int:
    """Perform one run; returns the exit status: 0, 1, or 130 after Ctrl-C.

    Raises:
        StreamsError, StackError: it could not be set up.
    """
    configure_logging("WARNING", json=False)
    console = Console(stderr=as_json)
    settings = Settings.load()
    try:
        with place(settings, console, keep=keep) as where:
            outcome = run_until_signal(_perform(Run(options, where, console), settings))
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return INTERRUPTED
    if as_json:
        print(orjson.dumps(outcome.as_json(), option=orjson.OPT_INDENT_2).decode())  # noqa: T201
    else:
        outcome.show(console)
    return 0 if outcome.ok else 1


def run_verify(path: Path, api: str | None, *, as_json: bool) -> int:
    """Verify a ledger against the servers of the environment; returns 0 or 1.

    Raises:
        ConfigurationError: no ledger, no database, or no broker where AMQP_URL names one.
    """
    configure_logging("WARNING", json=False)
    settings = Settings.load()
    ledger = Ledger.load(path)
    verdict = run_until_signal(_verify(settings, ledger, api))
    if as_json:
        print(orjson.dumps(report.verdict_json(verdict), option=orjson.OPT_INDENT_2).decode())  # noqa: T201
    else:
        report.show_verdict(Console(), verdict)
    return 0 if verdict.agrees else 1


async def _perform(run: Run, settings: Settings) -> Report:
    run.console.print("migrating the database", highlight=False)
    await migrate(run.place.database, settings.migration_sources)
    return await run.perform()


async def _verify(settings: Settings, ledger: Ledger, api: str | None) -> Verdict:
    async with connected(require(settings.database_url, "DATABASE_URL")) as database:
        if settings.amqp_url is None:
            return await verify(ledger, database, None, api)
        async with await brokered(settings.amqp_url.get_secret_value()) as broker:
            return await verify(ledger, database, broker, api)


@contextmanager
def place(settings: Settings, console: Console, *, keep: bool) -> Iterator[Place]:
    """The given servers, or private ones that end with the context."""
    queues = tuple(subscription.queue for subscription in load_subscriptions(settings.handlers))
    if settings.has_servers:
        folder = Path(tempfile.mkdtemp(prefix="streams-demo-"))
        yield Place(
            require(settings.amqp_url, "AMQP_URL"),
            require(settings.database_url, "DATABASE_URL"),
            require(settings.redis_url, "REDIS_URL"),
            folder,
            queues,
        )
        return
    console.print("starting private RabbitMQ, PostgreSQL and Redis", highlight=False)
    stack = LocalStack("demo", die_with_parent=not keep)
    urls = stack.start()
    try:
        yield Place(urls.amqp, urls.database, urls.redis, stack.folder, queues)
    finally:
        if keep:
            console.print(
                "the servers go on; stop them with: streams stack down --name demo", highlight=False
            )
        else:
            stack.stop()


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on uvloop, where SIGTERM does what Ctrl-C does: cancel, clean up, KeyboardInterrupt."""

    async def main() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
