"""`streams bench`: measures the service on private servers; what it stored is checked in the same go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.bench.options import By, Export, Options, Tale

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
Stored = Annotated[int, typer.Option(min=0, help="Rows that are stored beforehand.")]
About = Annotated[Tale, typer.Option("--story", help="What the events are about.")]
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
    stored: Stored = 0,
    story: About = Tale.MIX,
    baselines: Baselines = True,
    json: Json = False,
) -> None:
    """Fill the queues with single events, then measure how fast they are stored."""
    from streams.bench.command import run_drain

    options = Options(events, 0, workers, payload_bytes, export, protocol, seed, stored, story=story)
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
    stored: Stored = 0,
    story: About = Tale.MIX,
    baselines: Baselines = True,
    json: Json = False,
) -> None:
    """Like drain, with CloudEvents arrays: one message, many events, one span per message."""
    from streams.bench.command import run_drain

    options = Options(events, size, workers, payload_bytes, export, protocol, seed, stored, story=story)
    raise typer.Exit(run_drain("batch", options, repeat, compare=baselines, as_json=json))


@app.command()
def hops(
    events: Events = 100_000,
    size: Annotated[int, typer.Option(min=0, max=5000, help="Events per array; 0: single events.")] = 0,
    export: Exporting = Export.OTLP,
    profile: Annotated[Path, typer.Option(help="Where the collapsed stacks go.")] = Path("bench.stacks"),
    json: Json = False,
) -> None:
    """What each hop costs the worker in µs of CPU per event, from a profile of a drain."""
    from streams.bench.command import run_hops

    raise typer.Exit(run_hops(Options(events, size, export=export), profile.absolute(), as_json=json))


@app.command()
def scaling(
    by: Annotated[By, typer.Argument(help="What is varied.")],
    events: Events = 60_000,
    repeat: Repeat = 1,
    export: Exporting = Export.OTLP,
    json: Json = False,
) -> None:
    """Drain with 1, 2, 3 workers; with 0, 1, 10 million rows stored; payloads of 0.2, 2, 20 KB; or a million
    events of backlog (memory over time)."""
    from streams.bench.command import run_scaling

    raise typer.Exit(run_scaling(by, Options(events, export=export), repeat, as_json=json))


Rate = Annotated[float, typer.Option(min=0.1, help="Per second.")]
Seconds = Annotated[float, typer.Option(min=1, help="How long; a warm-up at its beginning is not counted.")]


@app.command()
def steady(rate: Rate = 2000, seconds: Seconds = 30, repeat: Repeat = 1, json: Json = False) -> None:
    """Publish at a rate; how long until an event is committed, and until caches are fresh.

    Latencies count from when an event was due: no stall hides.
    """
    from streams.bench import loads
    from streams.bench.command import run_loads

    raise typer.Exit(run_loads("steady", {"steady": loads.steady(rate, seconds)}, repeat, as_json=json))


@app.command()
def consistency(rate: Rate = 2000, seconds: Seconds = 30, repeat: Repeat = 1, json: Json = False) -> None:
    """Publish at a rate, with readers, and have the caches checked: what share is consistent, how soon."""
    from streams.bench import loads
    from streams.bench.command import run_loads

    load = loads.consistency(rate, seconds)
    raise typer.Exit(run_loads("consistency", {"consistency": load}, repeat, as_json=json))


@app.command()
def api(rate: Rate = 1000, seconds: Seconds = 20, repeat: Repeat = 1, json: Json = False) -> None:
    """Read what is cached at a rate."""
    from streams.bench import loads
    from streams.bench.command import run_loads

    raise typer.Exit(run_loads("api", {"api": loads.api(rate, seconds)}, repeat, as_json=json))


@app.command()
def mixed(
    reads: Rate = 1000, writes: Rate = 500, seconds: Seconds = 30, repeat: Repeat = 1, json: Json = False
) -> None:
    """Read by Zipf's law while events are written: hits of the caches, cold and warm, and why not more;
    latencies of both."""
    from streams.bench import loads
    from streams.bench.command import run_loads

    raise typer.Exit(run_loads("mixed", loads.mixed(reads, writes, seconds), repeat, as_json=json))


Users = Annotated[int | None, typer.Option(min=1, help="Each reads once a second; 4 events/s are written.")]
Minutes = Annotated[float | None, typer.Option(min=0.1, help="How long in all.")]


@app.command()
def smoke(users: Users = None, minutes: Minutes = None, json: Json = False) -> None:
    """The guide's smoke test: 2 users, 1 minute."""
    _profile("smoke", users, minutes, json)


@app.command()
def load(users: Users = None, minutes: Minutes = None, json: Json = False) -> None:
    """The guide's load test: 100 users, 10 minutes."""
    _profile("load", users, minutes, json)


@app.command()
def stress(users: Users = None, minutes: Minutes = None, json: Json = False) -> None:
    """The guide's stress test: up to 500 users in five steps, 10 minutes."""
    _profile("stress", users, minutes, json)


@app.command()
def soak(users: Users = None, minutes: Minutes = None, json: Json = False) -> None:
    """The guide's soak test: 50 users, 24 hours; memory over time."""
    _profile("soak", users, minutes, json)


def _profile(name: str, users: int | None, minutes: float | None, json: bool) -> None:
    from streams.bench.command import run_loads
    from streams.bench.loads import PROFILES

    raise typer.Exit(run_loads(name, PROFILES[name].loads(users, minutes), 1, as_json=json))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A result of --json.")],
    after: Annotated[Path, typer.Argument(help="Another of the same command.")],
) -> None:
    """Two results beside each other: ratios, and whether they are more than noise."""
    from rich.console import Console

    from streams.bench.compare import show

    show(Console(), before, after)


@app.command()
def report(
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes: small, once, only to see it work.")
    ] = False,
    docs: Annotated[Path, typer.Option(help="The folder with performance.md.")] = Path("docs"),
    only: Annotated[list[str] | None, typer.Option(help="Steps by name, as the page's sections.")] = None,
) -> None:
    """All measurements, written into docs/performance.md and docs/performance/."""
    from streams.bench.command import run_report

    raise typer.Exit(run_report(docs, only or [], quick=quick))
