"""The record of trials counts processes that died, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from schemas.errors import KillsWorker
from streams.acks import AckTracker
from streams.cache import connect_redis
from streams.database import Database
from streams.settings import Settings
from streams.solo import Solo
from streams.suspects import TRIALS, Court, PostgresTrials, RedisTrials, Trials
from tests.intakes import Acknowledged, delivery

Process = Callable[[], Trials]


@pytest.fixture(params=["postgres", "redis"])
async def process(
    request: pytest.FixtureRequest, database_url: str, redis_url: str
) -> AsyncIterator[Process]:
    """Makes the record as another process sees it."""
    database = Database(Settings.load(database_url=database_url), "test")
    await database.connect()
    redis = connect_redis(redis_url, "test")
    yield lambda: PostgresTrials(database) if request.param == "postgres" else RedisTrials(redis)
    await database.close()
    await redis.aclose()


async def test_processes_are_counted_and_not_their_tries(process: Process) -> None:
    key, first, second, third = uuid4(), process(), process(), process()
    assert [await first.begin(key) for _ in range(3)] == [0, 0, 0]
    assert await second.begin(key) == 1
    assert await third.begin(key) == 2
    assert await first.begin(uuid4()) == 0
    await third.end(key)
    assert await process().begin(key) == 0


async def test_a_trial_that_ends_leaves_nothing_and_one_that_does_not_counts(process: Process) -> None:
    message = delivery(1, AckTracker(Acknowledged()))

    def court() -> Court:
        return Court("q", Solo(), process())

    for _ in range(TRIALS + 1):
        with pytest.raises(KeyError):
            async with court().decoding(message):
                raise KeyError("an error is no death")
        async with court().decoding(message):
            pass
    for died in range(TRIALS):
        with pytest.raises(asyncio.CancelledError):
            async with court().decoding(message):
                raise asyncio.CancelledError  # the process had to go, and it was still at it
        assert died < TRIALS
    with pytest.raises(KillsWorker, match=f"{TRIALS} workers died"):
        async with court().decoding(message):
            raise AssertionError("tried once too often")
    other = Court("another queue", Solo(), process())
    async with other.decoding(message):
        pass
