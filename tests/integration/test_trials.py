"""The record of trials counts processes that died, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from schemas.errors import KillsWorker
from streams.acks import AckTracker
from streams.cache import connect_redis
from streams.database import Database
from streams.settings import Settings
from streams.solo import Solo
from streams.suspects import TRIALS, Court, Deaths, PostgresTrials, RedisTrials, Trials
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
    assert [await first.begin(key, False) for _ in range(3)] == [Deaths(0, 0)] * 3
    assert await second.begin(key, True) == Deaths(0, 1)
    assert await third.begin(key, False) == Deaths(1, 1)
    assert await first.begin(key, True) == Deaths(1, 1), "it has worked since"
    assert await process().begin(key, True) == Deaths(2, 1)
    assert await first.begin(uuid4(), True) == Deaths(0, 0)
    await third.end(key)
    assert await process().begin(key, True) == Deaths(0, 0)


async def test_a_death_of_who_knows_what_counts_only_while_few_messages_have_any(process: Process) -> None:
    for _ in range(4):
        await process().begin(uuid4(), False)
    key = uuid4()
    await process().begin(key, False)
    assert await process().begin(key, True) == Deaths(0, 0, crowded=True)
    assert await process().begin(key, True) == Deaths(1, 0, crowded=True)


async def test_among_many_messages_with_deaths_two_at_the_same_one_may_be_chance(process: Process) -> None:
    key = uuid4()
    for _ in range(3):
        await process().begin(uuid4(), True)
    for _ in range(TRIALS):
        await process().begin(key, True)
    assert (await process().begin(key, True)).convict, "few others have any"
    other = uuid4()
    for _ in range(TRIALS):
        await process().begin(other, True)
    assert not (await process().begin(other, True)).convict
    assert (await process().begin(other, True)).convict, "a third one is no chance"


async def test_where_every_trial_kills_nobody_is_convicted(process: Process) -> None:
    """A worker that always dies, whatever it tries: its deaths spread over the messages."""
    messages = [delivery(number, AckTracker(Acknowledged())) for number in range(1, 31)]
    chance = random.Random(1)
    for _ in range(60):
        with pytest.raises(asyncio.CancelledError):
            async with Court("q", Solo(), process()).decoding(chance.choice(messages)):
                raise asyncio.CancelledError
    court = Court("q", Solo(), process())
    for message in messages:
        async with court.decoding(message):
            pass


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
