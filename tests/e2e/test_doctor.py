"""`streams doctor` against real servers: well, mis-tuned on purpose, and gone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import redis.asyncio

from streams.doctor.limits import Limits
from streams.doctor.model import Section, Verdict
from streams.doctor.redis.probe import READS
from streams.health import free_port
from streams.producer import uuid7
from streams.scrape import parse
from streams.scrape.target import Target
from tests.conftest import Servers
from tests.examined import findings, results_of, whole_service, wrong
from tests.mistuning import HANDLERS, mistuned_postgres, mistuned_rabbitmq, mistuned_redis, vhost_of
from tests.support import event, eventually, publish

# Of the local stack: it runs as its servers' administrator, and on whatever RabbitMQ the machine brings.
KNOWN = {
    "postgres.roles", "redis.users", "rabbitmq.version",
}  # fmt: skip

# How fast a machine is that many share proves nothing.
_PATIENT = {
    "ping_ms": 1e6, "slow_ping_ms": 1e6, "api_p99": 1e6, "database_p99": 1e6, "event_age_p99": 1e6,
    "cache_age_p99": 1e6, "slow_query_ms": 1e6, "growth_noise_bytes": 1 << 40,
}  # fmt: skip
_LIMITS = Limits(fewest_lookups=20, fewest_blocks=100, **_PATIENT)


async def test_a_healthy_service_has_nothing_critical_and_is_left_as_it_was(servers: Servers) -> None:
    await _forget_other_tests(servers)
    async with whole_service(servers, watchdog_seconds=0.5) as where, _commands(servers) as commands:
        await _some_work(servers, where)
        await eventually(lambda: _counted(servers, where), "our consumers are counted")
        before = await _state(servers)
        commands.clear()
        found = await findings(servers, where, window=0.2, limits=_LIMITS)
        after = await _state(servers)
        sent = _of_the_doctor(commands)

    assert {
        n: f for n, f in found.items() if f.verdict is Verdict.CRITICAL and not n.startswith("host.")
    } == {}
    assert wrong(found) <= KNOWN, {name: found[name] for name in wrong(found) - KNOWN}
    assert before == after
    assert any(command.startswith("MEMORY USAGE") for command in sent)
    of_the_client = ("CLIENT SET", "AUTH", "HELLO", "SELECT")
    assert {command for command in sent if not command.startswith((*READS, *of_the_client))} == set()
    assert "ratelimit" in found["service.rate-limit"].measured
    for name in ("service.database-p99", "service.event-age", "service.cache-age", "service.api-p99",
                 "postgres.missing-indexes", "service.retries", "service.pool-utilisation"):  # fmt: skip
        assert found[name].verdict is Verdict.OK, (name, found[name])


async def test_each_thing_that_is_mistuned_is_found_and_nothing_else(servers: Servers) -> None:
    limits = Limits(
        fewest_lookups=20, fewest_blocks=100, idle_in_transaction=0.0, long_transaction=1.0, lock_wait=0.0,
        large_table_rows=1000, unused_after_days=0.0, unused_bytes=100_000, big_key_bytes=50_000,
        **(_PATIENT | {"slow_query_ms": 100.0}),
    )  # fmt: skip
    await _forget_other_tests(servers)
    # The watchdog is asleep: it would take the queue that is replaced to be ours, and consume it. And warming
    # would look up what nobody has stored.
    async with whole_service(servers, watchdog_seconds=3600, warm=False) as where:
        await eventually(lambda: _counted(servers, []), "our consumers are counted")
        healthy = wrong(await findings(servers, where, limits=limits))
        async with AsyncExitStack() as stack:
            expected = await stack.enter_async_context(mistuned_postgres(servers))
            expected |= await stack.enter_async_context(mistuned_redis(servers))
            expected |= await stack.enter_async_context(mistuned_rabbitmq(servers))
            await stack.enter_async_context(_one_statement_for_each_row(servers, where))
            found = await findings(
                servers, where, window=1.0, limits=limits, log_level="DEBUG", handlers=HANDLERS
            )
    expected |= {"service.n-plus-one", "service.logging"}
    assert wrong(found) - healthy == expected, {
        name: found[name] for name in (wrong(found) - healthy) ^ expected
    }
    critical = {name for name in expected if found[name].verdict is Verdict.CRITICAL}
    assert critical == {
        "postgres.setting.synchronous_commit", "postgres.setting.full_page_writes", "postgres.setting.fsync",
        "postgres.setting.autovacuum", "postgres.lock-waits", "postgres.migrations",
        "rabbitmq.queue-type", "rabbitmq.arguments", "rabbitmq.consumers",
    }  # fmt: skip
    assert "idx_users_email ON users (email)" in " ".join(found["postgres.missing-indexes"].sql)
    (reset,) = found["postgres.setting.work_mem"].sql
    assert reset.startswith("ALTER DATABASE ")
    assert reset.endswith(" RESET work_mem;")
    (reset,) = found["postgres.setting.full_page_writes"].sql
    assert reset.startswith("ALTER SYSTEM SET full_page_writes = on;")
    recreated = found["postgres.missing-indexes"].sql
    assert any("ON ONLY tasks" in statement for statement in recreated)
    assert all("DROP" not in sql or sql.startswith("--") for f in found.values() for sql in f.sql)
    await _the_printed_sql_repairs(servers, recreated)


async def test_a_server_that_is_gone_costs_its_section_and_no_more(servers: Servers) -> None:
    nowhere = f"127.0.0.1:{free_port('127.0.0.1')}"
    gone = Servers(
        amqp=f"amqp://user:secret@{nowhere}/",
        database=servers.database,
        redis=f"redis://:secret@{nowhere}/0",
        management=f"http://user:secret@{nowhere}",
    )
    results = await results_of(gone, [Target("worker", f"http://{nowhere}")])
    found = {r.check.name: r.finding for r in results}
    for section in (Section.REDIS, Section.RABBITMQ):
        assert found[f"{section}.reachable"].verdict is Verdict.CRITICAL
        others = [
            r for r in results if r.check.section is section and not r.check.name.endswith(".reachable")
        ]
        assert {r.finding.verdict for r in others} == {Verdict.UNKNOWN}
    assert found["service.processes"].verdict is Verdict.CRITICAL
    assert found["postgres.missing-indexes"].verdict is Verdict.OK
    assert "secret" not in str(results)


async def test_the_command_reports_to_programs_by_its_status(servers: Servers) -> None:
    environment = {**os.environ, **servers.environment, "STREAMS_MANAGEMENT_URL": servers.management}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "doctor", "--json", "--window", "0",
        "--only", "rabbitmq", "--only", "postgres.setting.fsync", "--api", "http://127.0.0.1:9",
        env=environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out = (await process.communicate())[0]
    report = json.loads(out)
    # Nobody has declared anything on this virtual host.
    assert process.returncode == report["status"] == 2
    verdicts = {c["id"]: c["verdict"] for c in report["checks"]}
    assert verdicts["rabbitmq.topology"] == "critical"
    assert verdicts["postgres.setting.fsync"] == "ok"
    assert {c["section"] for c in report["checks"]} == {"rabbitmq", "postgres"}
    assert urlsplit(servers.management).password not in out.decode()


async def _forget_other_tests(servers: Servers) -> None:
    """What Redis has counted and noted so far."""
    cache = redis.asyncio.from_url(servers.redis)
    await cache.config_resetstat()
    await cache.slowlog_reset()
    await cache.execute_command("LATENCY RESET")
    await cache.aclose()


async def _some_work(servers: Servers, where: list[Target]) -> None:
    ids = [str(uuid7()) for _ in range(40)]
    await publish(servers.amqp, "tasks", [event("task.created", {"task_id": i, "kind": "x"}) for i in ids])
    api = next(target.url for target in where if target.role == "api")
    async with httpx.AsyncClient(base_url=api) as http:

        async def stored() -> bool:
            answer = await http.get("/v1/tasks?limit=100")  # which may be told to ask less often
            return answer.status_code == 200 and len(answer.json()["data"]) == len(ids)

        await eventually(stored, "the tasks are stored")
        await eventually(lambda: _applied(where), "the invalidations are applied")
        for _ in range(25):
            await http.get(f"/v1/tasks/{ids[0]}")


async def _applied(where: list[Target]) -> bool:
    url = next(target.url for target in where if target.role == "updater")
    async with httpx.AsyncClient() as http:
        return "streams_event_age_at_cache_seconds_count" in (await http.get(f"{url}/metrics")).text


async def _counted(servers: Servers, where: list[Target]) -> bool:
    """Whether RabbitMQ's statistics, which come every five seconds, have our consumers; and our watchdogs."""
    async with httpx.AsyncClient() as http:
        for target in where[:2]:
            sample = parse((await http.get(f"{target.url}/metrics")).text, 0.0)
            if not all(sample.by("streams_consumers_reported", "queue").values()):
                return False
    async with httpx.AsyncClient(base_url=servers.management) as management:
        found = (await management.get(f"/api/queues/{quote(vhost_of(servers), safe='')}")).json()
    return sum(queue.get("consumers", 0) for queue in found) >= 4


async def _state(servers: Servers) -> dict[str, Any]:
    """What an examination must leave as it is."""
    async with httpx.AsyncClient(base_url=servers.management) as management:
        definitions = (await management.get(f"/api/definitions/{vhost_of(servers)}")).json()
    cache = redis.asyncio.from_url(servers.redis)
    connection = await asyncpg.connect(servers.database)
    try:
        return {
            "definitions": definitions,
            "keys": sorted(await cache.keys()),
            "configuration": await cache.config_get("*"),
            "relations": await connection.fetchval("SELECT count(*) FROM pg_class"),
            "settings": await connection.fetch("SELECT name, setting FROM pg_settings ORDER BY 1"),
            "roles": await connection.fetch("SELECT rolname, rolconfig FROM pg_roles ORDER BY 1"),
            "tasks": await connection.fetchval("SELECT count(*) FROM tasks"),
            "extensions": await connection.fetchval("SELECT count(*) FROM pg_extension"),
        }
    finally:
        await cache.aclose()
        await connection.close()


@asynccontextmanager
async def _commands(servers: Servers) -> AsyncIterator[list[bytes]]:
    """Every command that reaches Redis, a line each, as MONITOR shows it."""
    parts = urlsplit(servers.redis)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"AUTH {parts.password}\r\nMONITOR\r\n".encode())
    assert [await reader.readline() for _ in range(2)] == [b"+OK\r\n"] * 2
    seen: list[bytes] = []

    async def listen() -> None:
        async for line in reader:
            seen.append(line)  # noqa: PERF401

    task = asyncio.create_task(listen())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()
        await writer.wait_closed()


def _of_the_doctor(lines: list[bytes]) -> set[str]:
    """The commands, with their subcommands, that came over connections that call themselves ours."""
    parsed = [re.match(rb'\+[\d.]+ \[\d+ ([^]]+)\] "(\w+)"(?: "(\w+)")?', line) for line in lines]
    named = {m[1] for m, line in zip(parsed, lines, strict=True) if m and b'"streams-doctor"' in line}
    words = [m.groups()[1:] for m in parsed if m and m[1] in named]
    return {(f"{a.decode()} {(b or b'').decode()}").upper() for a, b in words}


@asynccontextmanager
async def _one_statement_for_each_row(servers: Servers, where: list[Target]) -> AsyncIterator[None]:
    """All the while, so that it happens between the two readings of the counters whenever these are taken."""
    api = next(target.url for target in where if target.role == "api")
    examined = asyncio.Event()

    async def work() -> None:
        async with httpx.AsyncClient(base_url=api) as http:
            while not examined.is_set():
                (await http.get("/v1/tasks")).raise_for_status()  # looks nothing up in a cache
                for _ in range(20):
                    await connection.fetch("SELECT roles FROM sessions WHERE user_id = $1", uuid7())

    connection = await asyncpg.connect(servers.database)
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        try:
            yield
        finally:
            examined.set()
    await connection.close()


async def _the_printed_sql_repairs(servers: Servers, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(servers.database)
    try:
        for statement in statements:
            await connection.execute(statement)
        valid = await connection.fetchval(
            "SELECT bool_and(indisvalid) AND count(*) = 2 FROM pg_index "
            "WHERE indexrelid IN (to_regclass('idx_users_email'), to_regclass('idx_recent_tasks'))"
        )
        assert valid
    finally:
        await connection.close()
