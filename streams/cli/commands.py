"""All commands."""

from __future__ import annotations

from typing import Annotated

import typer

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
    roles,
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
app.command("worker")(roles.worker)
app.command("updater")(roles.updater)
app.command("api")(roles.api)
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
