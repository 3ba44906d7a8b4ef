"""Who may read what, and how often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import asyncpg
import httpx
import pytest

from handlers.access import FAILURES, Quota
from handlers.api import Limits
from handlers.gate import Gate
from handlers.lists import Lists
from handlers.paging import encode
from handlers.queries import Queries
from handlers.reads import Reads
from handlers.selecting import Rows
from schemas.cache import session_token_key
from schemas.ids import uuid7
from streams.cache import Cache, Cached, Source, connect_redis
from streams.ratelimit import LocalLimiter, RateLimiter
from tests.api_support import (
    NoCache,
    NoLimiter,
    add_agent,
    add_event,
    add_session,
    add_task,
    client_of,
    reading,
)
from tests.fault.proxy import Proxy


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_session_reads_what_is_its_users_and_an_operators_everything(
    database: asyncpg.Pool, redis_url: str
) -> None:
    mine, other = await add_session(database, "mine"), await add_session(database, "other")
    await add_session(database, "op", roles=["operator"])
    agent = await add_agent(database)
    my_task = await add_task(database, agent_id=agent, user_id=mine)
    other_task = await add_task(database, agent_id=agent, user_id=other)
    nobodys = await add_task(database, agent_id=agent)
    for task in (my_task, other_task):
        await add_event(database, task)
    everything = {str(my_task), str(other_task), str(nobodys)}
    async with reading(database, redis_url, api_open=False) as (client, _):

        async def seen(token: str, path: str) -> set[str]:
            answer = await client.get(path, headers=bearer(token))
            assert answer.status_code == 200, answer.text
            return {row["id"] for row in answer.json()["data"]}

        async def status(token: str, path: str) -> int:
            return (await client.get(path, headers=bearer(token))).status_code

        for _ in range(2):  # the second time from the caches
            for path in ("/v1/tasks", f"/v1/tasks?agent_id={agent}", f"/v1/agents/{agent}/tasks"):
                assert await seen("mine", path) == {str(my_task)}, path
                assert await seen("other", path) == {str(other_task)}, path
                assert await seen("op", path) == everything, path
            assert await seen("mine", f"/v1/users/{mine}/tasks") == {str(my_task)}
            assert await seen("op", f"/v1/users/{mine}/tasks") == {str(my_task)}
            for path in (f"/v1/users/{other}/tasks", f"/v1/tasks?user_id={other}"):
                assert await status("mine", path) == 403
            for suffix in ("", "/events"):
                assert await status("mine", f"/v1/tasks/{my_task}{suffix}") == 200
                for hidden in (other_task, nobodys, uuid7()):
                    assert await status("mine", f"/v1/tasks/{hidden}{suffix}") == 404
                assert await status("op", f"/v1/tasks/{other_task}{suffix}") == 200
            nested = await client.get("/v1/agents?include=tasks", headers=bearer("mine"))
            assert [task["id"] for task in nested.json()["data"][0]["tasks"]] == [str(my_task)]
            nested = await client.get("/v1/agents?include=tasks", headers=bearer("op"))
            assert {task["id"] for task in nested.json()["data"][0]["tasks"]} == everything
        for path in ("/v1/agents", f"/v1/agents/{agent}/stats", "/v1/rounds", "/v1/leaderboards/daily"):
            assert await status("mine", path) == 200


async def test_wrong_tokens_are_slowed_down_by_address_and_good_ones_go_on(
    database: asyncpg.Pool, redis_url: str
) -> None:
    await add_session(database, "good")
    await add_session(database, "unused")
    redis = connect_redis(redis_url, "test")
    async with reading(database, redis_url, api_open=False, limiter=RateLimiter(redis)) as (client, cache):
        assert (await client.get("/v1/agents", headers=bearer("good"))).status_code == 200
        guesses = [
            (await client.get("/v1/agents", headers=bearer(f"guess {n}"))).status_code
            for n in range(FAILURES.burst + 3)
        ]
        assert guesses[: FAILURES.burst] == [401] * FAILURES.burst
        assert guesses[-1] == 429
        blocked = await client.get("/v1/agents", headers=bearer("unused"))
        assert blocked.status_code == 429, "nothing is looked up for an address that guesses"
        assert blocked.json()["type"] == "/problems/too-many-failures"
        assert int(blocked.headers["retry-after"]) >= 1
        assert (await client.get("/v1/agents", headers=bearer("good"))).status_code == 200
        keys = [key.decode() for key in await redis.keys("s:*")]
        known = {session_token_key(sha256(token.encode()).digest()) for token in ("good", "unused")}
        assert set(keys) <= known, "wrong tokens leave nothing in Redis"
        # A session that was good lately, and ended, is not good any more.
        await database.execute("DELETE FROM sessions")
        await cache.invalidate({session_token_key(sha256(b"good").digest())}, set())
        assert (await client.get("/v1/agents", headers=bearer("good"))).status_code in (401, 429)
    await redis.aclose()


async def test_a_user_has_a_limit_of_its_own_on_all_processes_together(
    database: asyncpg.Pool, redis_url: str
) -> None:
    user, _ = await add_session(database, "one"), await add_session(database, "two")
    quota = Quota(rate=0.01, burst=10)  # none grows back while this runs
    clients = [connect_redis(redis_url, f"test-{n}") for n in range(2)]
    caches = [Cache(redis) for redis in clients]
    options = [
        {"api_open": False, "limiter": RateLimiter(redis), "limits": Limits(quota=quota)} for redis in clients
    ]
    async with (
        client_of(database, caches[0], **options[0]) as first,
        client_of(database, caches[1], **options[1]) as second,
    ):
        answers = await asyncio.gather(
            *(client.get("/v1/agents", headers=bearer("one")) for client in (first, second) * 15)
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (10, 20), "to the request, whoever is asked"
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["type"] == "/problems/rate-limited"
        assert 0 < int(refused.headers["retry-after"]) <= 100
        assert refused.headers["ratelimit-policy"] == '"read";q=10;w=1000'
        assert refused.headers["ratelimit"].startswith('"read";r=0;t=')
        left = sorted(int(a.headers["ratelimit"].split(";")[1][2:]) for a in answers if a.status_code == 200)
        assert left == list(range(10))
        assert (await first.get("/v1/agents", headers=bearer("two"))).status_code == 200
        assert (await first.get("/livez")).headers.get("ratelimit") is None
        assert 0 < await clients[0].pttl(f"rl:{user}:read") <= 1_000_000
    for cache in caches:
        await cache.close()


async def test_without_tokens_addresses_are_limited_and_ipv6_by_network(
    database: asyncpg.Pool, redis_url: str
) -> None:
    limits = Limits(quota=Quota(rate=0.01, burst=1))
    limiter = LocalLimiter()

    class Local:
        async def take(self, key: str, quota: Quota) -> object:
            return limiter.take(key, quota)

    async with reading(database, redis_url, limiter=Local(), limits=limits) as (client, _):
        app = client._transport.app  # type: ignore[attr-defined]

        async def status(address: str) -> int:
            transport = httpx.ASGITransport(app=app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as from_there:
                return (await from_there.get("/v1/agents")).status_code

        asked = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
        assert [await status(address) for address in asked] == [200, 429, 200, 200, 429, 200]


async def test_without_redis_each_process_limits_by_itself(redis_url: str) -> None:
    async with Proxy(redis_url) as proxy:
        redis = connect_redis(proxy.url, "test", timeout=0.5)
        limiter, quota = RateLimiter(redis), Quota(rate=0.01, burst=5)
        assert (await limiter.take("rl:a:read", quota)).remaining == 4
        proxy.refuse()
        proxy.reset()
        verdicts = [await limiter.take("rl:a:read", quota) for _ in range(7)]
        assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False] * 2
        await redis.aclose()


@pytest.mark.parametrize("rate", [1.0, 50.0, 0.3, 1_000_000.0])
async def test_local_limits_are_those_of_redis(redis_url: str, rate: float) -> None:
    redis = connect_redis(redis_url, "test")
    quota = Quota(rate=rate, burst=3)
    here, there = LocalLimiter(clock=lambda: 0.0), RateLimiter(redis)
    for _ in range(3):
        ours, theirs = here.take("k", quota), await there.take("rl:k:read", quota)
        assert ours.allowed
        assert theirs.allowed
        if rate < 2:  # else some has grown back meanwhile
            assert (ours.remaining, ours.retry_after) == (theirs.remaining, theirs.retry_after)
            assert ours.reset == pytest.approx(theirs.reset, abs=0.5)
    if rate < 2:
        ours, theirs = here.take("k", quota), await there.take("rl:k:read", quota)
        assert (ours.allowed, theirs.allowed) == (False, False)
        assert ours.retry_after == pytest.approx(theirs.retry_after, abs=0.5)
    await redis.aclose()


def test_a_quota_grows_back_at_its_rate() -> None:
    now = 0.0
    limiter, quota = LocalLimiter(clock=lambda: now), Quota(rate=10, burst=2)
    assert [limiter.take("k", quota).allowed for _ in range(3)] == [True, True, False]
    assert limiter.take("k", quota).retry_after == pytest.approx(0.1)
    now = 0.11
    assert [limiter.take("k", quota).allowed for _ in range(2)] == [True, False]
    now = 60.0
    assert [limiter.take("k", quota).allowed for _ in range(3)] == [True, True, False]


async def test_asking_what_a_route_can_do_needs_no_token(database: asyncpg.Pool, redis_url: str) -> None:
    async with reading(database, redis_url, api_open=False, limiter=NoLimiter()) as (client, _):
        assert (await client.options("/v1/tasks")).status_code == 204
        assert (await client.head("/v1/tasks")).status_code == 401


async def test_tokens(database: asyncpg.Pool, redis_url: str) -> None:
    await add_session(database, "good")
    await add_session(database, "over", seconds=-1)
    async with reading(database, redis_url, api_open=False) as (client, cache):
        for header in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Basic good",
            "good",
            "Bearer over",
            "Bearer x",
            "Bearer gööd",
        ):
            headers = {} if header is None else {"Authorization": header.encode()}
            answer = await client.get("/v1/tasks", headers=headers)
            assert answer.status_code == 401, header
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
        for _ in range(2):
            assert (
                await client.get("/v1/tasks", headers={"Authorization": "bearer good"})
            ).status_code == 200
        assert (
            await client.get("/v1/tasks", headers={"Authorization": "Bearer " + "x" * 5000})
        ).status_code == 401
        for path in ("/livez", "/readyz", "/metrics", "/schema"):
            assert (await client.get(path)).status_code == 200
        hashed = await database.fetchval("SELECT token_hash FROM sessions WHERE expires_at > now()")
        await database.execute("DELETE FROM sessions")
        await cache.invalidate({session_token_key(hashed)}, set())  # as the identity service says it
        assert (await client.get("/v1/tasks", headers={"Authorization": "Bearer good"})).status_code == 401


@pytest.mark.parametrize(("seconds", "valid"), [(60, True), (-0.001, False)])
async def test_a_cached_session_ends_on_time(database: asyncpg.Pool, seconds: float, valid: bool) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    entry = encode({"user_id": uuid4(), "roles": [], "expires_at": ends})

    class Hit(NoCache):
        async def get(self, *_: object, **__: object) -> Cached:
            return Cached(entry, Source.REDIS)

    rows = Rows(database, Gate(1))
    assert (await Reads(Queries(rows), Lists(rows), Hit()).session(b"hash") is not None) is valid
