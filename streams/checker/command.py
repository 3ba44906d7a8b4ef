"""From the command line to a report."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

import orjson
from rich.console import Console

from schemas.errors import ConfigurationError
from streams.checker.tally import Report
from streams.checker.watch import Options, checking
from streams.lifecycle import stop_on_signals
from streams.settings import Settings, require
from streams.telemetry import configure_logging


def run_watch(
    apis: Sequence[str],
    seconds: float,
    *,
    rate: float,
    delays: tuple[float, ...],
    threshold: float,
    as_json: bool,
) -> int:
    """Check for so long, or until Ctrl-C; returns 0, or 1 if the caches are not as they must be.

    Raises:
        ConfigurationError: a URL is missing, or a server cannot be reached.
    """
    configure_logging("CRITICAL", json=False)
    settings = Settings.load()
    token = settings.api_token.get_secret_value() if settings.api_token else None
    apis = apis or settings.api_urls
    if not apis:
        raise ConfigurationError("say which API is to be read: --api URL, or STREAMS_API_URLS")
    report = asyncio.run(_watch(settings, apis, seconds, Options(rate, delays=delays, token=token)))
    ok = report.ok(threshold)
    if as_json:
        body = {"ok": ok, "threshold": threshold, **report.as_json()}
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        report.show(Console())
        if not report.total(report.decisive).judged:
            Console().print("[red]nothing could be judged: was anything invalidated?[/red]")
    return 0 if ok else 1


async def _watch(settings: Settings, apis: Sequence[str], seconds: float, options: Options) -> Report:
    amqp, database = require(settings.amqp_url, "AMQP_URL"), require(settings.database_url, "DATABASE_URL")
    stop = stop_on_signals()
    async with checking(amqp, database, apis, options, patience=max(options.delays) + 1) as checker:
        sys.stderr.write(f"checking {', '.join(apis)} for {seconds:g} s; Ctrl-C ends it\n")
        sys.stderr.flush()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
    return checker.report()
