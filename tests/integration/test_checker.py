"""The checker beside the whole service: silent while all is well, and each trouble is found and named."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import httpx
import orjson
import pytest
import redis.asyncio

from streams.api import Api
from streams.cache import Cache
from streams.checker.judge import Outcome
from streams.checker.subjects import Kind
from streams.checker.watch import Checker, Options, checking
from streams.demo.observe import Observer
from streams.demo.simulator import simulate
from tests.conftest import Servers
from tests.support import event, eventually, publish, running, settings_for

EVERYTHING = Options(rate=10_000, burst=300, delays=(0.1, 1.0), late=30.0)


@dataclass
class Served:
    servers: Servers
    base: str
    client: httpx.AsyncClient
    observer: Observer

    def told(self) -> bool:
        """Whether all that was invalidated is known to be applied."""
        return bool(self.observer.asked) and not self.observer.outstanding()


@pytest.fixture
async def served(servers: Servers) -> AsyncIterator[Served]:
    """Worker, updater and read API at work in this process."""
    settings, stop = settings_for(servers, api_open=True), asyncio.Event()
    async with running(settings):
        api = Api(settings)
        serving = asyncio.create_task(api.run(stop))
        base = f"http://{api.host}:{api.port}"
        async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as client:
            await eventually(lambda: _answers(client), "the API")
            async with await aio_pika.connect(servers.amqp) as broker:
                observer = Observer()
                await observer.listen(await broker.channel())
                yield Served(servers, base, client, observer)
        stop.set()
        await serving


async def test_finds_nothing_while_all_is_well_even_beyond_the_memory_of_redis(served: Served) -> None:
    """Redis is made so small that it evicts all the time: entries, leases and stamps."""
    async with redis.asyncio.from_url(served.servers.redis) as client:
        before = {name: (await client.config_get(name))[name] for name in ("maxmemory", "maxmemory-policy")}
        evicted = (await client.info("stats"))["evicted_keys"]
        filling = asyncio.create_task(_fill(client))
        try:
            used = (await client.info("memory"))["used_memory"]
            await client.config_set("maxmemory-policy", "allkeys-lru")
            await client.config_set("maxmemory", used + 3_000_000)
            async with watching(served, Options(rate=100, delays=(0.1, 1.0), late=30.0)) as checker:
                await eventually(lambda: _judged_while_played(served, checker), "a verdict on every kind", 90)
        finally:
            filling.cancel()
            await asyncio.wait({filling})
            for name, value in before.items():
                await client.config_set(name, value)
        assert (await client.info("stats"))["evicted_keys"] - evicted > 100
    report = checker.report()
    assert report.stale == []
    assert (report.total(0.1).share, report.total(1.0).share, report.backwards) == (1.0, 1.0, 0)
    assert report.caches["hit"] > 0
    assert report.ok(1.0)
    assert report.sampled.total() < report.heard.total()


async def test_names_what_an_updater_forgets(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 20th key is dropped on the way to Redis: 95 % are consistent, and the report names the others."""
    agents = await _agents_that_are_cached(served, 40)
    dropped: list[str] = []
    seen = 0
    apply = Cache.invalidate

    async def forgetful(self: Cache, keys: Any, tags: Any) -> None:
        nonlocal seen
        kept = set(keys)
        for key in sorted(keys):
            seen += key.startswith("ag:")
            if key.startswith("ag:") and seen % 20 == 0:
                kept.discard(key)
                dropped.append(key.removeprefix("ag:"))
        await apply(self, kept, tags)

    monkeypatch.setattr(Cache, "invalidate", forgetful)
    async with watching(served, EVERYTHING) as checker:
        await _pause(served, agents)
        await eventually(lambda: _verdicts(checker, 1.0) == 40, "a verdict on each agent", 60)
    report = checker.report()
    for delay in EVERYTHING.delays:
        counts = report.counts[Kind.AGENT, delay]
        assert counts.outcomes.total() == 40
        assert counts.outcomes[Outcome.STALE] == 2
        assert counts.share == pytest.approx(0.95, abs=0.01)  # a busy machine may leave one undecided
    assert len(dropped) == 2
    for agent in dropped:
        assert any(
            line.startswith(f"/v1/agents/{agent} after 1 s: {agent}: updated_at is ") for line in report.stale
        )
    assert not report.ok(1.0)
    assert report.ok(0.9)


async def test_tells_late_from_never(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalidations reach Redis only once the first verdicts are there."""
    agents = await _agents_that_are_cached(served, 10)
    apply = Cache.invalidate
    options = Options(rate=10_000, burst=100, delays=(0.1, 6.0), late=30.0)

    async with watching(served, options) as checker:

        async def delayed(self: Cache, keys: Any, tags: Any) -> None:
            await eventually(lambda: _verdicts(checker, 0.1) >= 10, "the first verdicts")
            await apply(self, keys, tags)

        monkeypatch.setattr(Cache, "invalidate", delayed)
        await _pause(served, agents)
        await eventually(lambda: _verdicts(checker, 6.0) == 10, "a verdict on each agent")
    report = checker.report()
    assert report.counts[Kind.AGENT, 0.1].share == 0.0
    assert report.counts[Kind.AGENT, 6.0].share == 1.0


async def test_sees_through_every_kind_of_stale_answer_and_says_so_by_its_exit_status(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API whose cache never forgets, checked by the command, too."""
    remembered: dict[str, Any] = {}
    get = Cache.get

    async def frozen(self: Cache, key: str, load: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        if key not in remembered:
            remembered[key] = await get(self, key, load, **options)
        return remembered[key]

    monkeypatch.setattr(Cache, "get", frozen)
    command = await _verify(served, "--watch", "5m", "--after", "0.1", "--after", "1", "--json")
    assert command.stderr is not None
    assert b"checking" in await command.stderr.readline()
    async with watching(served, Options(rate=100, delays=(0.1, 1.0), late=30.0)) as checker:
        await eventually(lambda: _stale_while_played(served, checker), "every kind found stale", 90)
    command.send_signal(signal.SIGINT)
    out, _ = await command.communicate()
    report = orjson.loads(out)
    assert command.returncode == 1
    assert not report["ok"]
    assert report["after"]["1"]["stale"] > 0
    assert report["stale"][0].startswith("/v1/")


async def test_a_time_that_is_none_is_a_sentence(served: Served) -> None:
    command = await _verify(served, "--watch", "soon")
    _, err = await command.communicate()
    assert command.returncode == 2
    assert b"--watch takes a time such as 60s" in err


@asynccontextmanager
async def watching(served: Served, options: Options) -> AsyncIterator[Checker]:
    servers = served.servers
    async with checking(servers.amqp, servers.database, [served.base], options, patience=5) as checker:
        yield checker


def _verdicts(checker: Checker, delay: float) -> int:
    counts = checker.report().counts.get((Kind.AGENT, delay))
    return counts.outcomes.total() if counts else 0


async def _judged_while_played(served: Served, checker: Checker) -> bool:
    """Play some more; whether every kind has a verdict by now."""
    counts = checker.report().counts
    if {kind for (kind, delay), found in counts.items() if delay == 1.0 and found.judged} == set(Kind):
        return True
    await play(served, seed=checker.report().heard.total(), events=100)
    return False


async def _agents_that_are_cached(served: Served, count: int) -> list[str]:
    agents = [str(uuid4()) for _ in range(count)]
    await publish(
        served.servers.amqp,
        "agents",
        [event("agent.registered", {"agent_id": agent, "name": "scout"}, seconds=-5) for agent in agents],
    )
    await eventually(lambda: _stored(served, count), "the agents")
    await eventually(served.told, "what they invalidate")
    await eventually(lambda: _all_cached(served, agents), "every agent is answered from a cache", 60)
    return agents


async def _all_cached(served: Served, agents: Sequence[str]) -> bool:
    answers = await asyncio.gather(*(served.client.get(f"/v1/agents/{agent}") for agent in agents))
    return all(answer.headers.get("x-cache") == "hit" for answer in answers)


async def _pause(served: Served, agents: Sequence[str]) -> None:
    said = [event("agent.status_changed", {"agent_id": agent, "status": "paused"}) for agent in agents]
    await publish(served.servers.amqp, "agents", said)


async def play(
    served: Served, seed: int, events: int = 600, *, publish_all: bool = True
) -> list[tuple[str, dict[str, Any]]]:
    """A simulated story, by exchange; published unless told otherwise."""
    story = simulate(run=f"check-{seed}", seed=seed, start=datetime.now(UTC), rate=2000, events=events)
    said = [(e.exchange, event(e.type, e.data, id=e.id, source=e.source, time=e.time)) for e in story]
    if publish_all:
        await _send(served, said)
    return said


async def _send(served: Served, said: Sequence[tuple[str, dict[str, Any]]]) -> None:
    for exchange in ("agents", "tasks", "votes"):
        await publish(served.servers.amqp, exchange, [body for where, body in said if where == exchange])


async def _stale_while_played(served: Served, checker: Checker) -> bool:
    """Play some more; whether something of every kind has been found stale by now."""
    report = checker.report()
    if {kind for (kind, _), found in report.counts.items() if found.outcomes[Outcome.STALE]} == set(Kind):
        return True
    await play(served, seed=report.heard.total(), events=100)
    return False


async def _stored(served: Served, count: int) -> bool:
    connection = await asyncpg.connect(served.servers.database)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM event_history") >= count)
    finally:
        await connection.close()


async def _verify(served: Served, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "verify", *arguments, "--api", served.base,
        env={**os.environ, **served.servers.environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


async def _fill(client: redis.asyncio.Redis) -> None:
    while True:
        pipeline = client.pipeline(transaction=False)
        for _ in range(50):
            pipeline.set(f"filler:{uuid4()}", b"x" * 2000, ex=60)
        await pipeline.execute(raise_on_error=False)
        await asyncio.sleep(0.01)
