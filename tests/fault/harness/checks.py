"""The ledger against what PostgreSQL, the quarantine and the caches hold at rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

import aio_pika
import asyncpg
import httpx
import orjson
import redis.asyncio

from streams.demo.compare import Check
from streams.demo.letters import QUARANTINE
from streams.demo.readback import Served, read_back
from streams.demo.stored import Stored, decisions
from streams.demo.verify import Expected, first_differences, verify
from tests.fault.harness.counters import Row
from tests.fault.harness.load import Load
from tests.fault.harness.place import Corner

_HISTORY: Final = "events in the history"
_ANNOUNCED: Final = "round.decided events"
_AT_ONCE: Final = 8


async def count_stored(row: Row, load: Load, database: str) -> None:
    """Fill in everything that PostgreSQL shows."""
    ledger = load.ledger
    connection = await asyncpg.connect(database, timeout=30)
    try:
        verdict = await verify(ledger, connection)
    finally:
        await connection.close()
    times = Counter(key for key, _ in verdict.history)
    row.attempted, row.acknowledged, row.stored = len(load.attempted), len(ledger.good), len(times)
    row.lost = len(ledger.good.keys() - times.keys())
    row.unexpected = len(times.keys() - load.attempted)
    row.history_doubles = sum(1 for count in times.values() if count > 1)
    for check in verdict.checks:
        row.details += first_differences(check.differences, 5)
        wrong = {difference.key for difference in check.differences}
        if check.what == _HISTORY:
            row.unexpected += len(_of_other_content(check))
        elif check.what == _ANNOUNCED:
            row.lost += len(wrong)
        else:
            row.state_differences += len(wrong)


def _of_other_content(check: Check) -> set[str]:
    return {difference.key for difference in check.differences if " should be " in difference.detail}


async def count_letters(row: Row, load: Load, amqp: str) -> None:
    """Look into quarantine: every bad event is there for its reason, and nothing else is."""
    expected = {sent.id: str(sent.refusal) for sent in load.ledger.bad.values()}
    missing = set(expected)
    for body, headers in await _letters(amqp):
        place = body + repr(headers).encode()
        owner = next((event_id for event_id in expected if event_id.encode() in place), None)
        reason = str(headers.get("x-reason", ""))
        if owner is None:
            row.innocents += 1
            row.details.append(f"in quarantine as {reason}: {headers.get('x-error', '')}"[:300])
        elif reason != expected[owner]:
            row.problems.append(f"{owner} is refused as {reason}, not as {expected[owner]}")
        missing.discard(owner or "")
    row.problems += [f"{event_id} is not in quarantine" for event_id in sorted(missing)[:5]]


async def _letters(amqp: str) -> list[tuple[bytes, dict[str, Any]]]:
    """All letters; they go back when the connection closes."""
    connection = await aio_pika.connect(amqp, timeout=30)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(QUARANTINE, passive=True)
        letters = []
        for _ in range(min(queue.declaration_result.message_count or 0, 5_000)):
            message = await queue.get(no_ack=False, fail=False)
            if message is None:
                break
            headers = {
                key: value.decode(errors="replace") if isinstance(value, bytes) else value
                for key, value in message.headers.items()
            }
            letters.append((message.body, headers))
    return letters


async def count_cached(row: Row, load: Load, corner: Corner, warm: str, cold: str, paths: set[str]) -> None:
    """Ask for every path that readers asked for: through the caches, and without them.

    Args:
        warm: base URL of the API that served the readers.
        cold: of one whose Redis database is empty, so that PostgreSQL answers.
    """
    async with redis.asyncio.from_url(corner.cold) as client:
        await client.flushdb()
    limits = httpx.Limits(max_connections=_AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=warm, timeout=30, trust_env=False, limits=limits) as cached,
        httpx.AsyncClient(base_url=cold, timeout=30, trust_env=False, limits=limits) as fresh,
    ):
        slots = asyncio.Semaphore(_AT_ONCE)

        async def compare(path: str) -> str:
            async with slots:
                served, stored = await cached.get(path), await fresh.get(path)
            if (served.status_code, _body(served)) == (stored.status_code, _body(stored)):
                return ""
            cache = served.headers.get("x-cache", "none")
            return f"{path} ({cache}): {served.text[:200]} instead of {stored.text[:200]}"

        found = await asyncio.gather(*(compare(path) for path in sorted(paths)))
    wrong = [line for line in found if line]
    row.cache_compared = len(found)
    row.cache_differences = len(wrong)
    row.details += wrong[:5]
    await _count_served(row, load, corner, warm, paths)


def _body(answer: httpx.Response) -> Any:
    """Not found twice is the same, whatever the wording around it."""
    return orjson.loads(answer.content) if answer.status_code == httpx.codes.OK else None


async def _count_served(row: Row, load: Load, corner: Corner, base: str, paths: Collection[str]) -> None:
    """The same entities against the recomputation, so that no reader of the database stands in between."""
    expected = Expected.of(load.ledger.good.values())
    connection = await asyncpg.connect(corner.database, timeout=30)
    try:
        rounds = await Stored(connection).rounds({key[0] for key in expected.rounds})
    finally:
        await connection.close()
    decided = decisions(rounds)
    asked = {UUID(name) for path in paths if len(name := path.rpartition("/")[2]) == 36}
    served = Served.of(
        expected.tasks,
        expected.rounds,
        expected.tallies,
        expected.agents,
        decided,
        expected.scores(decided),
    )
    kept = Served(*({k: v for k, v in rows.items() if k in asked} for rows in _tables(served)))
    for check in await read_back(base, kept):
        row.cache_compared += check.compared
        row.cache_differences += len({difference.key for difference in check.differences})
        row.details += first_differences(check.differences, 5)


def _tables(served: Served) -> tuple[Any, Any, Any]:
    return served.tasks, served.rounds, served.agents
