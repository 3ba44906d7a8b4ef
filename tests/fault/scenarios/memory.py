"""A million events wait; one worker drains them in memory that does not grow."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import asyncpg
import orjson

from streams.demo.simulator import SimEvent, rfc3339
from streams.demo.traffic import BATCH, STRUCTURED, Message, Mode, Planned, attributes
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import Member, rss_of
from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial

_SOURCE: Final = "urn:fault:backlog"
_AGENTS: Final = 50
_ARRAY: Final = 100
_SINGLES: Final = 20  # one block of tasks in so many goes out as one message per event
_MOST_BYTES: Final = 200 * 2**20
_GROWTH: Final = 1.25  # of the last quarter over the second

_AGENT: Final = f"('00000000-0000-4000-8000-' || lpad((i % {_AGENTS})::text, 12, '0'))::uuid"
_IDS: Final = """
SELECT i, (lpad(to_hex($1::bigint + i / 10), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid AS id
FROM generate_series(0, $2::bigint - 1) i
"""
_EVENTS: Final = """
SELECT i || '-' || k FROM generate_series(0, $1::bigint - 1) i, generate_series(0, 3) k
"""
_STORED: Final = "SELECT count(*) AS rows, count(DISTINCT (source, event_id)) AS events FROM event_history"
_LOST: Final = f"SELECT count(*) FROM ({_EVENTS} EXCEPT SELECT event_id FROM event_history) missing"
_UNEXPECTED: Final = f"""
SELECT count(*) FROM (SELECT event_id FROM event_history WHERE source = $2 EXCEPT {_EVENTS}) surplus
"""
_WRONG_TASKS: Final = f"""
SELECT count(*) FROM ({_IDS}) wanted FULL JOIN tasks t USING (id)
WHERE t.id IS NULL OR i IS NULL OR (status, priority, progress, kind, agent_id, result->>'n') IS DISTINCT FROM
    ('completed', (i % 10)::int2, 0.5, 'count', {_AGENT},
     i::text)
"""
_WRONG_SCORES: Final = f"""
SELECT count(*) FROM (
    SELECT {_AGENT} AS agent_id,
        count(*) AS completed
    FROM generate_series(0, $1::bigint - 1) i GROUP BY 1
) wanted FULL JOIN (
    SELECT agent_id, sum(completed) AS completed, sum(points) AS points FROM agent_scores GROUP BY 1
) found USING (agent_id)
WHERE wanted.completed IS DISTINCT FROM found.completed OR points IS DISTINCT FROM wanted.completed * 10
"""


async def backlog(stage: Stage) -> None:
    """Arrays of 100, and one event in twenty in a message of its own."""
    tasks = stage.scaled(250_000, 5_000)
    start = datetime.now(UTC) - timedelta(milliseconds=tasks * 4) - timedelta(minutes=5)
    base = int(start.timestamp() * 1000)
    async with trial(stage, f"backlog of {4 * tasks:,}", workers=0, reads=20) as here:
        here.unlisted = 4 * tasks
        here.count = lambda: _count(here, base, tasks)
        here.producer.listed = False
        await here.producer.send_all(_messages(base, tasks))
        here.load.tasks += [str(_task_id(base, number)) for number in range(0, tasks, max(1, tasks // 500))]
        begun = time.monotonic()
        (worker,) = await here.fleet.start("worker")
        samples = await _sample(here, worker, 4 * tasks)
        seconds = time.monotonic() - begun
        here.row.faults = (
            f"drained at {4 * tasks / seconds:,.0f} events/s by one worker; "
            f"resident memory {_range(samples)}, readers beside"
        )
        here.row.problems += _judge(samples)


async def _sample(here: Trial, worker: Member, events: int) -> list[int]:
    """Resident bytes twice a second until everything is stored."""
    samples: list[int] = []

    async def drained() -> bool:
        samples.append(rss_of(worker))
        await asyncio.sleep(0.5)
        return len(samples) % 4 == 0 and await here.stored() >= events

    await until(drained, "the backlog is stored", 900)
    return samples


def _quarters(samples: list[int]) -> tuple[int, int]:
    """Medians of the second quarter, when everything is warm, and of the last."""
    quarter = max(1, len(samples) // 4)
    second = samples[quarter : 2 * quarter] or samples
    return round(statistics.median(second)), round(statistics.median(samples[-quarter:]))


def _range(samples: list[int]) -> str:
    second, last = _quarters(samples)
    low, high, second, last = (value / 2**20 for value in (min(samples), max(samples), second, last))
    return f"{low:.0f} to {high:.0f} MB, median {second:.0f} MB in the second quarter, {last:.0f} in the last"


def _judge(samples: list[int]) -> list[str]:
    second, last = _quarters(samples)
    problems = []
    if max(samples) > _MOST_BYTES:
        problems.append(f"the worker took {max(samples) / 2**20:.0f} MB")
    if last > second * _GROWTH:
        problems.append(f"memory grew from {second / 2**20:.0f} to {last / 2**20:.0f} MB")
    return problems


async def _count(here: Trial, base: int, tasks: int) -> None:
    row: Row = here.row
    connection = await asyncpg.connect(here.corner.database)
    try:
        stored = await connection.fetchrow(_STORED)
        assert stored is not None
        row.attempted = row.acknowledged = here.unlisted
        row.stored, row.history_doubles = stored["events"], stored["rows"] - stored["events"]
        row.lost = await connection.fetchval(_LOST, tasks)
        row.unexpected = await connection.fetchval(_UNEXPECTED, tasks, _SOURCE)
        row.state_differences = await connection.fetchval(_WRONG_TASKS, base, tasks)
        row.state_differences += await connection.fetchval(_WRONG_SCORES, tasks)
    finally:
        await connection.close()


def _task_id(base: int, number: int) -> str:
    digits = f"{base + number // 10:012x}70008000{number:012x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _event(base: int, number: int, kind: int) -> SimEvent:
    data: dict[str, Any] = {"task_id": _task_id(base, number)}
    match kind:
        case 0:
            type_ = "task.created"
            data |= {"kind": "count", "priority": number % 10, "payload": {"number": number}}
        case 1:
            type_ = "task.assigned"
            data["agent_id"] = f"00000000-0000-4000-8000-{number % _AGENTS:012d}"
        case 2:
            type_ = "task.progressed"
            data["progress"] = 0.5
        case _:
            type_ = "task.completed"
            data["result"] = {"n": number}
    at = datetime.fromtimestamp((base + 4 * number + kind) / 1000, UTC)
    return SimEvent(f"{number}-{kind}", _SOURCE, type_, rfc3339(at), data)


def _messages(base: int, tasks: int) -> Iterator[Message]:
    """Block by block of a hundred tasks: all created, all assigned, and so on."""
    rng = Random(1)
    for first in range(0, tasks, _ARRAY):
        numbers = range(first, min(first + _ARRAY, tasks))
        alone = rng.randrange(_SINGLES) == 0
        for kind in range(4):
            events = [_event(base, number, kind) for number in numbers]
            if alone:
                for event in events:
                    yield _message(Mode.STRUCTURED, STRUCTURED, attributes(event), event)
            else:
                yield _message(Mode.BATCH, BATCH, [attributes(event) for event in events], *events)


def _message(mode: Mode, content_type: str, body: Any, *events: SimEvent) -> Message:
    planned = tuple(Planned(event, 0) for event in events)
    return Message(mode, "tasks", events[0].type, content_type, orjson.dumps(body), planned, 0)


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {"backlog": backlog}
