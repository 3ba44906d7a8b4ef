"""`streams bench`: measures the service on private servers; what it stored is checked in the same go."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.bench.options import Export, Options

app = typer.Typer(
    help="Measure on private servers, with nothing left out: quorum queues, confirms, fsync, all indexes, "
    "de-duplication, invalidations applied, every event traced. Each run checks what was stored.",
    no_args_is_help=True,
)

Events = Annotated[int, typer.Option(min=100, help="Events of the backlog.")]
Repeat = Annotated[int, typer.Option(min=1, help="Runs; medians and spread are reported.")]
Workers = Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")]
Payload = Annotated[int, typer.Option(min=0, max=50_000, help="Bytes in a task's payload and in its result.")]
Exporting = Annotated[Export, typer.Option(help="What becomes of spans.")]
Protocol = Annotated[str | None, typer.Option(help="OTEL_EXPORTER_OTLP_PROTOCOL of the service.")]
Seed = Annotated[int, typer.Option(help="The same seed, the same events.")]
Baselines = Annotated[
    bool, typer.Option(help="Measure a plain FastStream handler, COPY and a bare consumer beside it.")
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")]


@app.command()
def drain(
    events: Events = 100_000,
    repeat: Repeat = 1,
    workers: Workers = 1,
    payload_bytes: Payload = 200,
    export: Exporting = Export.OTLP,
    protocol: Protocol = None,
    seed: Seed = 1,
    baselines: Baselines = True,
    json: Json = False,
) -> None:
    """Fill the queues with single events, then measure how fast they are stored."""
    from streams.bench.command import run_drain

    options = Options(events, 0, workers, payload_bytes, export, protocol, seed)
    raise typer.Exit(run_drain("drain", options, repeat, compare=baselines, as_json=json))


@app.command()
def batch(
    events: Events = 300_000,
    size: Annotated[int, typer.Option(min=2, max=5000, help="Events per array.")] = 100,
    repeat: Repeat = 1,
    workers: Workers = 1,
    payload_bytes: Payload = 200,
    export: Exporting = Export.OTLP,
    protocol: Protocol = None,
    seed: Seed = 1,
    baselines: Baselines = True,
    json: Json = False,
) -> None:
    """Like drain, with CloudEvents arrays: one message, many events, one span per message."""
    from streams.bench.command import run_drain

    options = Options(events, size, workers, payload_bytes, export, protocol, seed)
    raise typer.Exit(run_drain("batch", options, repeat, compare=baselines, as_json=json))
