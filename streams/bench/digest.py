"""What is read during a run, worked out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streams.bench import proc
from streams.bench.results import Batches
from streams.bench.service import Samples, total
from streams.bench.stored import Commit

_POINTS: Final = 120


@dataclass(slots=True)
class Watch:
    """What was read at the first delivery and at the end."""

    begun: float
    cpu: dict[str, float]
    machine: proc.Machine


def watch(roots: Mapping[str, int], mine: int) -> Watch:
    """Read the clocks of these process trees, without our own session in PostgreSQL."""
    return Watch(time.time(), proc.cpu_seconds(roots, mine), proc.machine())


def rate(commits: Sequence[Commit], begun: float, ready_at: Sequence[float]) -> float:
    """Events per second from the first delivery; with several workers, from the first commit after the last
    one was ready. What was committed until then counts neither as work nor as time (a large batch of which a
    part was done before would count for too much), unless that is nearly all there was."""
    if len(ready_at) > 1:
        late = [commit for commit in commits if commit.at > max(begun, *ready_at)]
        if len(late) > 1:
            return sum(commit.events for commit in late[1:]) / (late[-1].at - late[0].at)
    counted = sum(commit.events for commit in commits if commit.at > begun)
    return counted / (commits[-1].at - begun) if counted else 0.0


def cpu_per_event(start: Watch, end: Watch, events: int) -> dict[str, float]:
    """Microseconds; several workers are summed up."""
    spent: dict[str, float] = {}
    for name, seconds in end.cpu.items():
        role = name.partition("-")[0]
        spent[role] = spent.get(role, 0.0) + (seconds - start.cpu[name]) / events * 1e6
    return {role: spent[role] for role in sorted(spent)}


def batches(samples: list[Samples]) -> dict[str, Batches]:
    found_batches: dict[str, Batches] = {}
    queues = {labels["queue"] for found in samples for labels, _ in found.get("streams_batches_total", ())}
    for queue in sorted(queues):
        triggers: dict[str, int] = {}
        for found in samples:
            for labels, value in found.get("streams_batches_total", ()):
                if labels["queue"] == queue:
                    triggers[labels["trigger"]] = triggers.get(labels["trigger"], 0) + round(value)
        events = sum(total(found, "streams_batch_size_sum", queue=queue) for found in samples)
        count = sum(triggers.values())
        found_batches[queue] = Batches(count, events / count if count else 0.0, triggers)
    return found_batches


def shares(start: proc.Machine, end: proc.Machine) -> dict[str, float]:
    spent = [after - before for before, after in zip(start, end, strict=True)]
    whole = sum(spent) or 1.0
    return {name: part / whole for name, part in zip(proc.Machine._fields, spent, strict=True)}


def progress(commits: list[Commit], begun: float) -> list[list[float]]:
    points, done = [], 0
    step = max(1, len(commits) // _POINTS)
    for number, commit in enumerate(commits):
        done += commit.events
        if number % step == 0 or number == len(commits) - 1:
            points.append([round(commit.at - begun, 3), done])
    return points
