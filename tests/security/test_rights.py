"""What each user of RabbitMQ, Redis and PostgreSQL may not do, by the files in infra/."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from handlers.access import Quota
from handlers.board_builds import build
from handlers.board_store import BoardStore
from handlers.board_updates import follow
from handlers.boards import boards_at
from schemas.cache import agent_key, rate_limit_key
from schemas.errors import Unavailable
from schemas.invalidations import CacheInvalidated, InvalidatedData
from streams.cache import RedisClient, connect_redis
from streams.database import Database, connect
from streams.declare import declare, declare_or_find
from streams.health import free_port
from streams.locks import Locks
from streams.lookups import Lookups
from streams.ratelimit import RateLimiter
from streams.registry import load_subscriptions
from streams.topology import Topology
from tests.security.secured import HANDLERS, INFRA, Secured
from tests.support import eventually

Act = Callable[[AbstractChannel], Awaitable[Any]]


def send(exchange: str, key: str) -> Act:
    async def act(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}"), key, timeout=5)

    return act


def take(queue: str) -> Act:
    async def act(channel: AbstractChannel) -> None:
        message = await (await channel.get_queue(queue, ensure=False)).get(fail=False)
        if message is not None:
            await message.nack(requeue=True)

    return act


def consume(queue: str) -> Act:
    async def act(channel: AbstractChannel) -> None:
        async def handle(_: object) -> None:
            raise AssertionError("a delivery")

        await (await channel.get_queue(queue, ensure=False)).consume(handle)

    return act


async def make_queue(channel: AbstractChannel) -> None:
    await channel.declare_queue("mine", exclusive=True)


async def make_exchange(channel: AbstractChannel) -> None:
    await channel.declare_exchange("tasks", "topic", durable=True)


async def listen_in(channel: AbstractChannel) -> None:
    await (await channel.get_queue("tasks.record_tasks", ensure=False)).bind("votes", "#")


async def delete(channel: AbstractChannel) -> None:
    await channel.queue_delete("tasks.record_tasks", if_unused=False, if_empty=False)


async def purge(channel: AbstractChannel) -> None:
    await (await channel.get_queue("tasks.record_tasks", ensure=False)).purge()


async def hear(channel: AbstractChannel, queue: str = "cache-bus.api.0f", key: str = "cache.applied") -> None:
    async def ignore(_: object) -> None: ...

    declared = await channel.declare_queue(queue, exclusive=True, auto_delete=True)
    await declared.bind("cache-bus", key)
    await declared.consume(ignore)


async def hear_all(channel: AbstractChannel) -> None:
    await hear(channel, key="#")


async def hear_as_another(channel: AbstractChannel) -> None:
    await hear(channel, "cache-bus.worker.0f")


NOBODY_BUT_TOPOLOGY = (make_queue, make_exchange, listen_in, delete)
FORBIDDEN: dict[str, tuple[Act, ...]] = {
    "producer": (
        *NOBODY_BUT_TOPOLOGY,
        purge,
        take("tasks.record_tasks"),
        take("quarantine"),
        consume("votes.record_votes"),
        send("dead-letters", "x"),
        send("invalidations", "cache.invalidated"),
        send("cache-bus", "x"),
        send("votes", "round.decided"),
        send("votes", "task.created"),
        send("tasks", "vote.cast"),
        send("", "tasks.record_tasks"),
    ),
    "worker": (
        *NOBODY_BUT_TOPOLOGY,
        send("tasks", "task.created"),
        send("votes", "vote.cast"),
        send("agents", "agent.registered"),
        send("cache-bus", "x"),
        send("", "tasks.record_tasks"),
        take("quarantine"),
        consume("invalidations.apply_invalidations"),
    ),
    "updater": (
        *NOBODY_BUT_TOPOLOGY,
        purge,
        send("invalidations", "cache.invalidated"),
        send("votes", "round.decided"),
        take("tasks.record_tasks"),
        take("quarantine"),
    ),
    "api": (
        *NOBODY_BUT_TOPOLOGY,
        purge,
        hear_all,
        hear_as_another,
        send("cache-bus", "cache.applied"),
        send("invalidations", "cache.invalidated"),
        send("tasks", "task.created"),
        take("tasks.record_tasks"),
        take("quarantine"),
        consume("invalidations.apply_invalidations"),
    ),
    "operator": (
        *NOBODY_BUT_TOPOLOGY,
        purge,
        take("tasks.record_tasks"),
        consume("invalidations.apply_invalidations"),
        send("cache-bus", "x"),
        send("", "tasks.record_tasks"),
    ),
    "monitor": (*NOBODY_BUT_TOPOLOGY, purge, take("quarantine"), send("tasks", "task.created")),
    "topology": (make_queue,),
}
ALLOWED: dict[str, tuple[Act, ...]] = {
    "operator": (take("quarantine"), send("dead-letters", "x")),
    "updater": (send("cache-bus", "cache.applied"),),
    "api": (hear,),
}


def amqp(secured: Secured, user: str) -> str:
    url = secured.settings(amqp_url=secured.amqp(user)).amqp_url
    assert url is not None
    return url.get_secret_value()


@pytest.mark.usefixtures("evidence")
@pytest.mark.parametrize("user", FORBIDDEN)
async def test_a_user_of_the_broker_may_not(secured: Secured, user: str) -> None:
    async with await aio_pika.connect(amqp(secured, user)) as connection:
        for act in ALLOWED.get(user, ()):
            await act(await connection.channel())
        for act in FORBIDDEN[user]:
            channel = await connection.channel()
            with pytest.raises(ChannelAccessRefused):
                await act(channel)


async def test_a_process_without_the_right_to_declare_says_what_is_missing(secured: Secured) -> None:
    topology = Topology.of(load_subscriptions((*HANDLERS, "tests.e2e.troubled")))
    with pytest.raises(Unavailable, match=r"exchange notes is missing .* `streams topology apply`"):
        await declare_or_find(amqp(secured, "worker"), topology)
    complete = Topology.of(load_subscriptions(HANDLERS))
    await declare_or_find(amqp(secured, "worker"), complete)
    await declare(amqp(secured, "topology"), complete)  # again: nothing happens


@asynccontextmanager
async def redis_as(secured: Secured, user: str) -> AsyncIterator[RedisClient]:
    url = secured.settings(redis_url=secured.redis(user)).redis_url
    assert url is not None
    client = connect_redis(url.get_secret_value(), "test")
    try:
        yield client
    finally:
        await client.aclose()


EVERYWHERE = (
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"), ("SHUTDOWN", "NOSAVE"), ("SCRIPT", "FLUSH"), ("MONITOR",),
    ("CLIENT", "KILL", "TYPE", "normal"), ("REPLICAOF", "NO", "ONE"), ("PUBLISH", "a", "b"),
    ("SWAPDB", "0", "1"),
    ("MODULE", "LIST"), ("FUNCTION", "LIST"),
)  # fmt: skip
REDIS_FORBIDDEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "updater": (
        ("GET", "t:1"), ("MGET", "tag:a"), ("SET", "t:1", "x"), ("HGET", "lb:daily:2026-11-24", "a"),
        ("EVAL", "return redis.call('GET', 't:1')", "0"), ("EVAL", "return 1", "1", "t:1"),
        ("EVAL", "return redis.call('UNLINK', 'lock:a')", "0"), ("ZRANGE", "lb:{a}:rank", "0", "1"),
        ("UNLINK", "other:1"), ("UNLINK", "t:1", "other:1"), ("RENAME", "t:1", "t:2"), ("SCAN", "0"),
    ),
    "api": (
        ("UNLINK", "t:1"), ("GET", "other:1"), ("GETEX", "other:1"), ("MGET", "t:1"),
        ("SET", "other:1", "x"), ("SCAN", "0"),
        ("RENAME", "t:1", "t:2"), ("EVAL", "return redis.call('GET', 'other:1')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"), ("UNLINK", "lb:daily:2026-11-24"),
    ),
    "operator": (("SET", "t:1", "x"), ("EVAL", "return 1", "0"), ("EXPIRE", "t:1", "1")),
}  # fmt: skip


@pytest.mark.parametrize("user", REDIS_FORBIDDEN)
async def test_a_user_of_redis_may_not(secured: Secured, user: str) -> None:
    async with redis_as(secured, user) as client:
        for command in (*EVERYWHERE, *REDIS_FORBIDDEN[user]):
            with pytest.raises(ResponseError, match=r"permission|can't (?:run|access)"):
                await client.execute_command(*command)


async def test_the_api_counts_requests_in_redis(secured: Secured) -> None:
    """A limiter that may not would limit locally: each would begin anew."""
    key, quota = rate_limit_key(uuid4(), "read"), Quota(rate=0.01, burst=5)
    async with redis_as(secured, "api") as client:
        left = [(await RateLimiter(client).take(key, quota)).remaining for _ in range(3)]
    assert left == [4, 3, 2]


async def test_leaderboards_are_built_by_the_api_and_followed_by_updaters(secured: Secured) -> None:
    """With their own logins, on both servers."""
    board = boards_at(datetime.now(UTC))[0]
    settings = secured.settings(database_url=secured.database("streams_updater"))
    reader = Database(secured.settings(database_url=secured.database("streams_api")), "test")
    await reader.connect()
    lookups = Lookups(settings, "test", size=1)
    async with redis_as(secured, "api") as api, redis_as(secured, "updater") as updater:
        for _ in range(2):
            await build(reader.pool, BoardStore(api), Locks(api), board)
        agent = agent_key(uuid4())
        named = CacheInvalidated(
            id="1", source="tests", time=datetime.now(UTC), data=InvalidatedData(keys=(agent,))
        )
        await follow(updater, lookups, [named])
        assert await BoardStore(api).top(board, 100) is not None
        assert await BoardStore(api).around(board, uuid4(), 3) is not None
        await follow(updater, None, [named])
        assert await BoardStore(api).top(board, 100) is None
    with pytest.raises(Unavailable, match="InsufficientPrivilege"):
        await lookups.fetch("SELECT payload FROM tasks")
    await lookups.close()
    await reader.close()


async def test_an_operator_of_redis_looks_and_removes(secured: Secured) -> None:
    async with redis_as(secured, "api") as client:
        await client.set("t:left", "x", px=60_000)
    async with redis_as(secured, "operator") as client:
        assert await client.ttl("t:left") > 0
        assert (await client.info("memory"))["used_memory"] > 0
        assert [key async for key in client.scan_iter("t:left")] == [b"t:left"]
        assert await client.client_list()
        assert await client.unlink("t:left") == 1


async def test_the_users_file_is_one_that_redis_takes(secured: Secured, tmp_path: Path) -> None:
    """As docs/security.md has it: a hash appended to the line, the default user off."""
    lines = (INFRA / "redis" / "users.acl").read_text().splitlines()
    digest = sha256(b"sesame").hexdigest()
    users = tmp_path / "users.acl"
    users.write_text("\n".join(f"{line} #{digest}" if "streams-updater" in line else line for line in lines))
    port = free_port("127.0.0.1")
    command = ["redis-server", "--port", str(port), "--aclfile", str(users), "--dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        client = connect_redis(f"redis://streams-updater:sesame@127.0.0.1:{port}/0", "test")

        async def answers() -> bool:
            try:
                return bool(await client.ping())
            except RedisConnectionError:
                assert process.returncode is None
                return False

        await eventually(answers, "Redis answers")
        assert await client.unlink("t:1") == 0
        await client.aclose()
        for login in ("", "streams-api:sesame@", "default:sesame@"):
            other = connect_redis(f"redis://{login}127.0.0.1:{port}/0", "test")
            with pytest.raises((AuthenticationError, ResponseError)):
                await other.ping()
            await other.aclose()
    finally:
        process.terminate()
        await process.wait()


DATABASE_FORBIDDEN = {
    "streams_worker": (
        "SELECT * FROM sessions", "SELECT * FROM users", "DELETE FROM tasks", "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)", "SET ROLE streams_migrator", "SET ROLE streams",
        "CREATE ROLE mine", "COPY tasks TO PROGRAM 'true'", "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()",
    ),
    "streams_api": (
        "UPDATE tasks SET status = 'failed'", "INSERT INTO users DEFAULT VALUES", "SELECT * FROM outbox",
        "SELECT claim_events(ARRAY[gen_random_uuid()])", "CREATE TEMP TABLE mine (a int)",
        "SET ROLE streams_writer", "COPY tasks TO PROGRAM 'true'",
    ),
    "streams_deployer": ("SET ROLE streams", "CREATE ROLE mine", "COPY tasks TO PROGRAM 'true'"),
}  # fmt: skip


@pytest.mark.parametrize("role", DATABASE_FORBIDDEN)
async def test_a_login_of_the_database_may_not(secured: Secured, role: str) -> None:
    url = secured.settings(database_url=secured.database(role)).database_url
    assert url is not None
    connection = await connect(url.get_secret_value())
    try:
        assert not await connection.fetchval("SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls"
                                             " FROM pg_roles WHERE rolname = current_user")  # fmt: skip
        if role == "streams_api":
            assert await connection.fetchval("SHOW default_transaction_read_only") == "on"
            await connection.execute("SET default_transaction_read_only = off")  # rights, not this, must hold
        for statement in DATABASE_FORBIDDEN[role]:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
