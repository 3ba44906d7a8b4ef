"""The command line: one file per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from schemas.errors import StreamsError
from streams.cli import (
    asyncapi,
    bench,
    cache,
    demo,
    dlq,
    doctor,
    migrate,
    partitions,
    publish,
    run,
    scores,
    slo,
    stack,
    tail,
    top,
    topology,
    trace,
    verify,
)  # fmt: skip
from streams.lifecycle import REFUSED
from streams.stack import StackError

app = typer.Typer(
    name="streams",
    help="Agent Streams: from RabbitMQ events to PostgreSQL, fresh caches and traces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("agent-streams"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("worker")(run.worker)
app.command("updater")(run.updater)
app.command("api")(run.api)
app.command("publish")(publish.publish)
app.command("tail")(tail.tail)
app.command("slo")(slo.slo)
app.command("trace")(trace.trace)
app.command("asyncapi")(asyncapi.asyncapi)
app.command("migrate")(migrate.migrate)
app.command("verify")(verify.verify)
app.command("scores")(scores.scores)
app.command("doctor")(doctor.doctor)
app.command("top")(top.top)
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(dlq.app, name="dlq")
app.add_typer(partitions.app, name="partitions")
app.add_typer(stack.app, name="stack")
app.add_typer(topology.app, name="topology")


def main() -> None:
    """Entry point of the `streams` command: errors we raise on purpose are one line, exit code 2."""
    try:
        app(prog_name="streams")
    except (StreamsError, StackError) as error:
        print(f"streams: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
