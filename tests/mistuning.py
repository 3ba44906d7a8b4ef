"""Real servers, mis-tuned on purpose; each yields the names of the checks that must find it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import aio_pika
import asyncpg
import httpx
import pika
import pytest
import redis.asyncio

from streams.declare import declare
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS
from streams.topology import Topology
from tests.conftest import Servers
from tests.support import eventually

HANDLERS = ",".join((*DEFAULT_HANDLERS, "billing.handlers"))

_OF_A_DATABASE = {
    "work_mem": "'1GB'", "jit": "on", "synchronous_commit": "off", "random_page_cost": "4",
    "log_min_duration_statement": "-1", "maintenance_work_mem": "'8MB'", "log_statement": "'all'",
    "effective_io_concurrency": "1", "effective_cache_size": "'64MB'", "log_lock_waits": "off",
    "idle_in_transaction_session_timeout": "0", "track_io_timing": "off",
    "log_error_verbosity": "'verbose'",
    "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
    "password_encryption": "'md5'",
}  # fmt: skip
_OF_THE_SERVER = {
    "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "autovacuum_naptime": "'10min'",
    "autovacuum_vacuum_scale_factor": "0.5", "autovacuum_analyze_scale_factor": "0.5",
    "max_wal_size": "'512MB'",
    "checkpoint_completion_target": "0.1", "log_checkpoints": "off",
    "max_locks_per_transaction": "65",  # waits for a restart that never comes
}  # fmt: skip
# Keeps Redis busy for 20 ms.
_BUSY = """
local function now() local t = redis.call('TIME') return t[1] * 1e6 + t[2] end
local began = now()
while now() - began < 20000 do end
"""
_JUDGED = ({*_OF_A_DATABASE} | {*_OF_THE_SERVER}) - {"effective_io_concurrency", "max_locks_per_transaction"}


def vhost_of(servers: Servers) -> str:
    return urlsplit(servers.amqp).path[1:]


@asynccontextmanager
async def mistuned_postgres(servers: Servers) -> AsyncIterator[set[str]]:
    name = urlsplit(servers.database).path[1:]
    admin, idle, waiting = [await asyncpg.connect(servers.database) for _ in range(3)]
    for parameter, value in _OF_A_DATABASE.items():
        await admin.execute(f'ALTER DATABASE "{name}" SET {parameter} = {value}')
    for parameter, value in _OF_THE_SERVER.items():
        await admin.execute(f"ALTER SYSTEM SET {parameter} = {value}")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.execute("""
        DROP INDEX idx_users_email; DROP INDEX idx_recent_tasks;
        CREATE INDEX twice ON users (created_at DESC);
        ALTER TABLE sessions SET (autovacuum_enabled = false);
        INSERT INTO users (id, email) SELECT gen_random_uuid(), 'user ' || n FROM generate_series(1, 30000) n;
        CREATE TABLE never_analyzed AS SELECT n FROM generate_series(1, 2000) n;
        ALTER TABLE never_analyzed SET (autovacuum_enabled = false);
        UPDATE never_analyzed SET n = n;
        DELETE FROM _yoyo_migration WHERE migration_id LIKE '0010%';
        CREATE TABLE sessions_copy AS SELECT 1 AS n FROM generate_series(1, 2);
        CREATE TABLE tasks_2001_01 PARTITION OF tasks FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z');
        CREATE TABLE tasks_others PARTITION OF tasks DEFAULT;
        INSERT INTO tasks (id, created_at, updated_at) VALUES (gen_random_uuid(), '2002-01-01Z', now());
    """)
    await admin.execute("SELECT pg_create_physical_replication_slot('nobody', true)")
    last = await admin.fetch(
        "SELECT partition_name FROM list_partitions() WHERE table_name = 'rounds' ORDER BY ends DESC LIMIT 2"
    )
    for row in last:
        await admin.execute(f"DROP TABLE {row['partition_name']}")
    with pytest.raises(asyncpg.UniqueViolationError):
        await admin.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON sessions_copy (n)")
    for _ in range(60):
        await admin.fetch("SELECT n FROM never_analyzed WHERE n = -1")
    for _ in range(3):
        await admin.execute("SELECT pg_sleep(0.11)")
    await idle.execute("BEGIN; LOCK TABLE users")
    blocked = asyncio.create_task(waiting.fetch("SELECT 1 FROM users"))
    await eventually(
        lambda: _holds(admin, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"), "one waits"
    )
    # Statistics of tables are written down when a session has been quiet for a moment.
    statistics = (
        "SELECT n_dead_tup >= 1000 AND seq_scan >= 50 FROM pg_stat_user_tables "
        "WHERE relname = 'never_analyzed'"
    )
    await admin.execute("SELECT pg_stat_force_next_flush()")
    await eventually(lambda: _holds(admin, statistics), "statistics are written")
    try:
        yield {f"postgres.setting.{parameter}" for parameter in _JUDGED} | {
            "postgres.configuration", "postgres.pending-restart", "postgres.missing-indexes",
            "postgres.duplicate-indexes", "postgres.unused-indexes", "postgres.invalid-indexes",
            "postgres.autovacuum-exempt", "postgres.stale-statistics", "postgres.dead-rows",
            "postgres.sequential-scans", "postgres.slow-statements", "postgres.idle-in-transaction",
            "postgres.long-transactions", "postgres.migrations", "postgres.partitions-ahead",
            "postgres.retention", "postgres.default-partitions", "postgres.replication-slots",
            "postgres.lock-waits",
        }  # fmt: skip
    finally:
        await idle.execute("ROLLBACK")
        await blocked
        for parameter in _OF_THE_SERVER:
            await admin.execute(f"ALTER SYSTEM RESET {parameter}")
        await admin.execute("SELECT pg_reload_conf(), pg_drop_replication_slot('nobody')")
        for connection in (admin, idle, waiting):
            await connection.close()


async def _holds(connection: asyncpg.Connection, condition: str) -> bool:
    return bool(await connection.fetchval(condition))


@asynccontextmanager
async def mistuned_redis(servers: Servers) -> AsyncIterator[set[str]]:
    cache = redis.asyncio.from_url(servers.redis)
    wanted = {
        "maxmemory-policy": "allkeys-lru", "appendfsync": "always", "slowlog-log-slower-than": "-1",
        "timeout": "0",
    }  # fmt: skip
    before = {name: (await cache.config_get(name))[name] for name in wanted}
    maxmemory = (await cache.config_get("maxmemory"))["maxmemory"]
    for n in range(20):  # so much that a tenth of it is more than any client's buffer: nothing is evicted
        await cache.set(f"q:large:{n}", b"x" * 1_000_000, ex=600)
    await cache.set("q:eternal", b"x")
    await cache.set("q:" + "long" * 40, b"x", ex=600)
    await cache.config_set("slowlog-log-slower-than", 10_000)
    await cache.eval(_BUSY, 0)
    await cache.config_resetstat()
    for _ in range(30):
        await cache.get("q:not-there")
    for name, value in wanted.items():
        await cache.config_set(name, value)
    used = (await cache.info("memory"))["used_memory"]
    await cache.config_set("maxmemory", int(used * 1.15))
    try:
        yield {
            "redis.eviction-policy", "redis.append-fsync", "redis.slow-log-threshold", "redis.idle-timeout",
            "redis.big-keys", "redis.keys-without-ttl", "redis.long-keys", "redis.memory", "redis.hit-ratio",
            "redis.slow-log",
        }  # fmt: skip
    finally:
        await cache.config_set("maxmemory", maxmemory)
        for name, value in before.items():
            await cache.config_set(name, value)
        await cache.slowlog_reset()
        await cache.flushdb()
        await cache.aclose()


@asynccontextmanager
async def mistuned_rabbitmq(servers: Servers) -> AsyncIterator[set[str]]:
    name = vhost_of(servers)
    vhost = quote(name, safe="")
    # aio-pika gives up a connection without heartbeats after three quiet seconds; pika does not.
    silent = await asyncio.to_thread(
        pika.BlockingConnection, pika.URLParameters(f"{servers.amqp}?heartbeat=0")
    )
    connection = await aio_pika.connect(servers.amqp)
    channel = await connection.channel()
    stray = await channel.declare_queue("stray", durable=True)
    await channel.default_exchange.publish(aio_pika.Message(b"{}"), "stray")
    await channel.default_exchange.publish(aio_pika.Message(b"{}"), "quarantine")
    await channel.default_exchange.publish(aio_pika.Message(b"{}"), "nowhere", mandatory=False)
    # Queues of handlers that no worker runs.
    await declare(servers.amqp, Topology.of(load_subscriptions(HANDLERS.split(","))))
    # The votes' queue is deleted and comes back as a classic one, before its worker notices.
    await channel.queue_delete("votes.record_votes")
    await channel.declare_queue("votes.record_votes", durable=True)
    async with httpx.AsyncClient(base_url=servers.management) as management:
        policy = {"pattern": "^tasks", "definition": {"message-ttl": 3_600_000}, "apply-to": "queues"}
        (await management.put(f"/api/policies/{vhost}/short", json=policy)).raise_for_status()

        missing: list[str] = []

        async def counted() -> bool:
            queues = {q["name"]: q for q in (await management.get(f"/api/queues/{vhost}")).json()}
            connections = (await management.get("/api/connections")).json()
            stats = (await management.get(f"/api/vhosts/{vhost}")).json().get("message_stats") or {}
            seen = {
                "stray": queues["stray"].get("messages", 0) > 0,
                "quarantine": queues["quarantine"].get("messages", 0) > 0,
                "policy": bool(queues["tasks.record_tasks"].get("effective_policy_definition")),
                "unroutable": stats.get("drop_unroutable", 0) > 0,
                "silent": any(c.get("timeout") == 0 and c.get("vhost") == name for c in connections),
            }
            missing[:] = [what for what, is_seen in seen.items() if not is_seen]
            return not missing

        try:
            await eventually(counted, "RabbitMQ's statistics show it", 30)
        except AssertionError as error:
            raise AssertionError(f"RabbitMQ does not show: {missing}") from error
    try:
        yield {
            "rabbitmq.queue-type", "rabbitmq.arguments", "rabbitmq.consumers", "rabbitmq.stray-queues",
            "rabbitmq.policies", "rabbitmq.quarantine", "rabbitmq.heartbeats", "rabbitmq.unroutable",
        }  # fmt: skip
    finally:
        await stray.delete(if_empty=False)
        await connection.close()
        await asyncio.to_thread(silent.close)
