"""Locks: one holder at a time, fencing tokens that grow whatever happens to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from schemas.cache import lock_key
from schemas.errors import LockLost, LockTaken
from streams.cache import connect_redis
from streams.locks import Locks
from tests.support import eventually

SHORT = 0.2


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(redis_url, "test-locks", timeout=20)
    yield client
    await client.aclose()


class Register:
    """Something that is written by holders only, and refuses those that others have followed."""

    def __init__(self) -> None:
        self.greatest = 0
        self.writers: list[str] = []

    def write(self, fence: int, writer: str) -> bool:
        if fence < self.greatest:
            return False
        self.greatest = fence
        self.writers.append(writer)
        return True


async def test_there_is_one_holder_at_a_time_and_tokens_grow(client: Redis) -> None:
    locks = Locks(client)
    inside, most = 0, 0
    fences: list[int] = []

    async def work() -> None:
        nonlocal inside, most
        async with locks.hold("work", wait=20) as lock:
            inside += 1
            most = max(most, inside)
            fences.append(lock.fence)
            await asyncio.sleep(0)
            await client.ping()
            inside -= 1

    await asyncio.gather(*(work() for _ in range(40)))
    assert most == 1
    assert len(fences) == 40
    assert fences == sorted(set(fences))
    assert await client.get(lock_key("work")) is None


async def test_who_comes_second_is_told_or_waits(client: Redis) -> None:
    locks, waiting = Locks(client), Locks(client)
    tries: list[object] = []

    async def counted(*args: object) -> object:
        tries.append(await client.eval(*args))
        return tries[-1]

    waiting._redis = type("Counted", (), {"eval": staticmethod(counted)})()
    async with locks.hold("work") as first:
        with pytest.raises(LockTaken):
            await locks.acquire("work")
        async with locks.hold("other"):
            pass
        second = asyncio.create_task(waiting.acquire("work", wait=20))
        await first.extend()
        await eventually(lambda: len(tries) >= 2, "it tries again and again")
        assert not second.done()
    assert (await second).fence > first.fence


async def test_a_holder_that_died_is_followed_and_refused_afterwards(client: Redis) -> None:
    locks, register = Locks(client, ttl=SHORT), Register()
    dead = await locks.acquire("work")
    assert register.write(dead.fence, "dead")
    heir = await locks.acquire("work", wait=20)
    assert register.write(heir.fence, "heir")
    assert not register.write(dead.fence, "dead"), "it woke up and writes"
    with pytest.raises(LockLost):
        await dead.extend()
    assert not await locks.release(dead), "that would free the heir's lock"
    assert await locks.release(heir)
    assert register.writers == ["dead", "heir"]


async def test_a_lock_that_is_kept_outlives_its_ttl_and_ends_with_its_block(client: Redis) -> None:
    locks = Locks(client, ttl=SHORT)
    async with locks.hold("work", at_most=60) as lock:
        await client.set("as-old", b"x", px=int(2000 * SHORT))
        await eventually(lambda: _is_gone(client, "as-old"), "twice the TTL is over")
        await lock.extend()
        with pytest.raises(LockTaken):
            await locks.acquire("work")
    async with locks.hold("work"):
        pass


async def _is_gone(client: Redis, key: str) -> bool:
    return await client.get(key) is None


async def test_who_hangs_does_not_hold_it_for_ever(client: Redis) -> None:
    locks = Locks(client, ttl=SHORT)
    async with locks.hold("work", at_most=SHORT / 2):
        await locks.acquire("work", wait=20)


async def test_tokens_grow_across_a_loss_of_everything(client: Redis) -> None:
    locks = Locks(client)
    before = await locks.acquire("work")
    await client.flushall()
    after = await locks.acquire("work")
    assert after.fence > before.fence
    await client.set("{lock:work}:fence", after.fence + 10**9)  # a clock that went back by 1,000 s
    assert await locks.release(after)
    assert (await locks.acquire("work")).fence == after.fence + 10**9 + 1


async def test_a_command_that_is_sent_twice_takes_the_lock_once(client: Redis, monkeypatch: object) -> None:
    """redis-py sends a command again when its connection breaks; the first may have run."""
    locks = Locks(client)
    run = client.eval

    async def twice(*args: object) -> object:
        await run(*args)
        return await run(*args)

    locks._redis = type("Twice", (), {"eval": staticmethod(twice)})()
    lock = await locks.acquire("work")
    assert await client.get(lock_key("work")) == f"{lock.fence} {lock.owner}".encode()


async def test_a_lock_expires_in_redis(client: Redis) -> None:
    lock = await Locks(client, ttl=SHORT).acquire("work")
    assert 0 < await client.pttl(lock_key("work")) <= SHORT * 1000

    async def gone() -> bool:
        return await client.get(lock_key("work")) is None

    await eventually(gone)
    assert await client.pttl("{lock:work}:fence") > 3_600_000
    assert lock.fence > 0
