"""Writes the tables of docs/scaling.md from what was measured.

    .venv/bin/python -m docs.scaling.capacity

Reads docs/performance/{drain,batch,steady}.json (`make bench`) and measured.json beside this file
(`python -m docs.scaling.measure`), runs the simulation, and replaces what stands between the page's markers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from docs.scaling.simulate import Costs, simulate

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "scaling.md"
PERFORMANCE: Final = HERE.parent / "performance"

RATES: Final = (10_000, 100_000, 1_000_000)
BUSY: Final = 0.6
"""The share of a core that is planned for: the rest is for bursts, failed nodes and what was not foreseen."""
COPIES: Final = 2
"""PostgreSQL's primary and a standby."""

# What nobody measured: prices in dollars a month, of no provider in particular. Change them and run again.
CORE, GIGABYTE_RAM, GIGABYTE_DISK = 25.0, 3.0, 0.10
RAM_PER_CORE: Final = 4


def median(result: dict[str, Any], figure: str) -> float:
    return float(result["summary"][figure]["median"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, [":--", *("--:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def big(number: float, unit: str) -> str:
    """1.7 GB and the like."""
    for prefix in ("", "K", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            return f"{number:.3g} {prefix}{unit}" if number < 1000 else f"{number:,.0f} {prefix}{unit}"
        number /= 1000
    raise AssertionError


def costs(drain: dict[str, Any], batch: dict[str, Any], measured: dict[str, Any]) -> str:
    rows = []
    for what, name, unit in (
        ("worker", "cpu_us.worker", "µs"),
        ("PostgreSQL", "cpu_us.postgres", "µs"),
        ("RabbitMQ, one node, to deliver it", "cpu_us.rabbitmq", "µs"),
        ("updater", "cpu_us.updater", "µs"),
        ("Redis", "cpu_us.redis", "µs"),
        ("WAL", "wal_bytes", "B"),
    ):
        form = ",.0f" if unit == "B" else ".1f"
        rows.append([what, *(f"{median(r, name):{form}} {unit}" for r in (drain, batch))])
    for what, name in (
        ("body of the message", "body"),
        ("to and from RabbitMQ, worker and updater", "network.rabbitmq"),
        ("to and from PostgreSQL", "network.postgres"),
        ("to and from Redis", "network.redis"),
        ("on PostgreSQL's disk, with indexes", "disk.postgres"),
    ):
        rows.append([what, *(f"{measured[form][name]:,.0f} B" for form in ("single", "arrays of 100"))])
    return table(["an event costs", "one a message", "arrays of 100"], rows)


def needs(batch: dict[str, Any], drain: dict[str, Any], measured: dict[str, Any]) -> str:
    """What each rate takes. From 10⁵ on producers are to send arrays."""
    columns: list[list[str]] = []
    broker_cpu = measured["broker cpu, us"]
    replicated = broker_cpu["three nodes"] / broker_cpu["one node"]
    # The drains begin with full queues; what taking a message in costs was measured on the nodes alone.
    taken_in = {"single": broker_cpu["three nodes"], "arrays of 100": broker_cpu["three nodes"] / 100}
    for rate in RATES:
        result, form = (drain, "single") if rate <= 10_000 else (batch, "arrays of 100")
        own = measured[form]

        def cores(name: str, result: dict[str, Any] = result, rate: int = rate) -> float:
            return rate * median(result, f"cpu_us.{name}") / 1e6 / BUSY

        worker, updater, broker = cores("worker"), cores("updater"), cores("rabbitmq") * replicated
        broker += rate * taken_in[form] / 1e6 / BUSY
        database, wal = cores("postgres"), rate * median(result, "wal_bytes")
        day = rate * own["disk.postgres"] * 86_400
        total = worker + updater + broker + database * COPIES + cores("redis")
        machines = total * (CORE + RAM_PER_CORE * GIGABYTE_RAM)
        disks = COPIES * day * 30 / 1e9 * GIGABYTE_DISK
        columns.append(
            [
                form.replace("single", "one"),
                f"{max(2, math.ceil(worker))}",
                f"{max(2, math.ceil(updater))}",
                f"{broker:.1f}",
                f"{database:.1f}",
                f"{big(wal, 'B')}/s",
                f"{big(rate * (own['network.postgres']) * 8, 'bit')}/s",
                f"{big(rate * own['network.rabbitmq'] * 8, 'bit')}/s",
                big(day, "B"),
                f"${machines:,.0f}",
                f"${disks:,.0f}",
            ]
        )
    names = [
        "events a message",
        "workers (a core each)",
        "updaters",
        "RabbitMQ, cores of three nodes",
        "PostgreSQL, cores of the primary",
        "WAL, and to each standby",
        "network, PostgreSQL",
        "network, RabbitMQ to us and back",
        "stored a day",
        "cores and memory, a month",
        "disks for 30 days, a month",
    ]
    rows = [[name, *(column[n] for column in columns)] for n, name in enumerate(names)]
    return table(["", *(f"{rate:,}/s" for rate in RATES)], rows)


def model(drain: dict[str, Any], steady: dict[str, Any]) -> Costs:
    """From the drain what an event costs, from the steady load what a batch does on top."""
    rate, batch = 2_000.0, 20.0  # events a batch at that rate, with 10 ms of linger: about 2,000 × 0.01
    per_event = median(drain, "cpu_us.worker") / 1e6
    per_batch = (median(steady, "cpu_us.worker") / 1e6 - per_event) * batch / 2
    wait_event = median(drain, "cpu_us.postgres") / 1e6
    # How long PostgreSQL lets a batch wait is fitted: so that the simulated median is the measured one.
    low, high = 0.001, 0.040
    for _ in range(12):
        middle = (low + high) / 2
        late = simulate(rate, Costs(per_batch, per_event, middle, wait_event))
        low, high = (middle, high) if late.p50 < median(steady, "committed_ms.p50") else (low, middle)
    return Costs(per_batch, per_event, (low + high) / 2, wait_event)


def lateness(drain: dict[str, Any], steady: dict[str, Any]) -> str:
    own = model(drain, steady)
    here = simulate(2_000, own)
    rows = []
    for workers in (1, 2, 3, 4, 6):
        late = simulate(10_000 / workers, own)
        kept = late.busy < 0.99
        rows.append(
            [
                f"{workers}",
                f"{10_000 / workers:,.0f}/s",
                f"{late.busy:.0%}",
                f"{late.p50:.0f} ms" if kept else "grows",
                f"{late.p99:.0f} ms" if kept else "grows",
            ]
        )
    text = table(["workers", "each gets", "its core is busy", "p50", "p99"], rows)
    told = (
        f"A batch costs {own.core_batch * 1e3:.1f} ms of a worker's core and {own.core_event * 1e6:.0f} µs "
        f"for each event, then {own.wait_batch * 1e3:.1f} ms of waiting.\n"
        f"At 2,000 events/s the model says p50 {here.p50:.0f} ms "
        f"(fitted) and p99 {here.p99:.0f} ms; measured were {median(steady, 'committed_ms.p50'):.0f} and "
        f"{median(steady, 'committed_ms.p99'):.0f} ms, on two cores for everything."
    )
    return f"{text}\n\n{told}"


def spread(measured: dict[str, Any]) -> str:
    found: dict[str, float] = measured["skew"]
    shards = sorted({int(name.split()[0]) for name in found})
    weights = sorted({int(name.rpartition(" ")[2]) for name in found})
    rows = [
        [f"{n} queues", *(f"{found[f'{n} queues, weight {weight}']:.2f} ×" for weight in weights)]
        for n in shards
    ]
    return table(["fullest over mean", *(f"weight {weight}" for weight in weights)], rows)


def replication(measured: dict[str, Any]) -> str:
    found: dict[str, float] = measured["broker cpu, us"]
    rows = [[name, f"{us:.0f} µs", f"{us / found['one node']:.1f} ×"] for name, us in found.items()]
    return table(["a persistent message through a quorum queue", "CPU of all nodes", ""], rows)


def write(name: str, text: str) -> None:
    begin, end = f"<!-- scaling:{name} -->", f"<!-- /scaling:{name} -->"
    before, found, rest = PAGE.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    drain, batch, steady = (
        json.loads((PERFORMANCE / f"{name}.json").read_text()) for name in ("drain", "batch", "steady")
    )
    measured = json.loads((HERE / "measured.json").read_text())
    write("costs", costs(drain, batch, measured))
    write("needs", needs(batch, drain, measured))
    write("lateness", lateness(drain, steady))
    write("spread", spread(measured))
    write("replication", replication(measured))
    print(f"wrote the tables of {PAGE.name}")


if __name__ == "__main__":
    main()
