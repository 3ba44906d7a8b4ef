"""What each hop costs a worker, in µs of CPU per event: a drain whose worker is sampled, sorted by file.

A sample belongs to the innermost of its frames that lies in a file of a hop. What runs below it (pydantic,
asyncpg's encoder, hashing) is the hop's; callbacks that C code calls from the event loop without any Python
between (receiving rows, writing to sockets) show as the loop's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from streams.bench.drain import drain
from streams.bench.finding import Finding
from streams.bench.options import Options
from streams.bench.place import Place
from streams.bench.profiled import OTHER_THREADS

# The first rule that fits a frame names its hop. A frame is file:function.
RULES: Final = (
    ("streams/frames.py", "frames: parse deliveries"),
    ("streams/tap.py", "frames: parse deliveries"),
    ("streams/edge.py", "frames: parse deliveries"),
    ("streams/decode.py", "decode and validate"),
    ("streams/lean.py", "decode and validate"),
    ("streams/intake.py", "take in, batch"),
    ("streams/batcher.py", "take in, batch"),
    ("streams/seats.py", "take in, batch"),
    ("streams/telemetry/metrics.py", "metrics"),
    ("prometheus_client/", "metrics"),
    ("streams/telemetry/", "trace: make spans"),
    ("streams/facts.py", "claims and history: write down"),
    ("streams/stores.py:_claim", "de-duplicate"),
    ("streams/stores.py:_append_history", "history: encode rows, COPY"),
    ("streams/stores.py:_after_commit", "outbox: encode, insert"),
    ("streams/outbox.py", "outbox: encode, insert"),
    ("streams/stores.py", "transaction"),
    ("streams/database.py", "transaction"),
    ("handlers/", "handler: merge, rows, statements"),
    ("streams/publisher.py", "publish"),
    ("aio_pika/", "AMQP library"),
    ("aiormq/", "AMQP library"),
    ("streams/acks.py", "settle"),
    ("streams/delivery.py", "settle"),
    ("streams/pipeline.py", "pipeline"),
    ("streams/health.py", "health, metrics over HTTP"),
)
LOOP: Final = "event loop, sockets, receiving rows"
EXPORT: Final = "other threads: encode and export spans"
START: Final = "start"
_COPY: Final = "streams/database.py:copy_records_to_table"  # whoever calls it is whose rows they are
_STARTING: Final = ("<frozen importlib", "streams/app.py:_start", "streams/app.py:__init__")


def hop_of(stack: str) -> str:
    """The hop that a collapsed stack belongs to."""
    if stack == OTHER_THREADS:
        return EXPORT
    frames = stack.split(";")
    if any(frame.startswith(_STARTING) for frame in frames):
        return START
    for frame in reversed(frames):
        if frame == _COPY:
            continue
        for fragment, hop in RULES:
            if frame.startswith(fragment):
                return hop
    return LOOP


def by_hop(lines: Iterable[str], events: int) -> dict[str, float]:
    """Microseconds per event by hop, the dearest first; the start is left out."""
    spent: Counter[str] = Counter()
    for line in lines:
        stack, _, micros = line.rpartition(" ")
        spent[hop_of(stack)] += int(micros)
    del spent[START]
    return {hop: micros / events for hop, micros in spent.most_common() if micros}


async def hops(place: Place, options: Options, out: Path) -> Finding:
    """Drain with a sampled worker; its collapsed stacks go to `out`, an absolute path."""
    run = await drain(place, replace(options, workers=1, profile=str(out)))
    with out.open() as lines:
        costs = by_hop(lines, options.events)
    figures = {"events_per_second": run.events_per_second, "cpu_us.worker": run.cpu_us["worker"]}
    return Finding(figures | {f"us, {hop}": micros for hop, micros in costs.items()}, run.checks)
