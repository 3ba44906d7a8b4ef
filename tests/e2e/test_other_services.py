"""Services that own users and sessions tell the caches; what they may not touch, they cannot."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from hashlib import sha256

import asyncpg

from schemas.cache import session_token_key
from schemas.contract import Store
from streams.cache import connect_redis
from tests.api_support import add_session, reading
from tests.conftest import Servers
from tests.support import EXAMPLES, event, eventually, publish, running, settings_for, take_all

TOKEN = "the token of somebody who signs out"

# What stands in Redis besides cached values, and belongs to nobody else.
OURS = (
    "lock:warming", "{lock:warming}:fence", "rl:u1:read", "tag:agents", "suspect:1",
    "lb:{daily:2026-11-24}:rank", "lb:{daily:2026-11-24}:rows",
    "lb:{daily:2026-11-24}:rows:new", "other:1", "t",
)  # fmt: skip
TRICKS = (
    "t:1 lock:warming", "t:1\r\nUNLINK lock:warming", "t:1\nlock:warming", "t:1\u0000lock:warming", "T:1",
    " t:1", "t:1\n", "*", "t:*", "lock:*", "t:[a]", "t:?", "t:{lock:warming}", "{lock:warming}:fence",
    "tag:tag:agents", "t:1\u2028lock:warming", "t:\u202e1", "t:é", "t:%6c", "t:1;rl:u1:read",
    "t:" + "x" * 161, "",
)  # fmt: skip
TAGS = (
    "agents lock:warming", "Agents", "agents:*", "agents\n", "a:{lock:warming}", ":agents", "agents:",
    "a:b:c:d:e", "agents\r\nFLUSHALL", "",
)  # fmt: skip


async def test_a_plain_producer_revokes_a_session(servers: Servers, database: asyncpg.Pool) -> None:
    await add_session(database, TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        running(settings_for(servers), Store.REDIS),
        reading(database, servers.redis, api_open=False) as (client, _),
    ):

        async def answers(status: int) -> bool:
            return (await client.get("/v1/agents", headers=headers)).status_code == status

        assert await answers(200)
        await database.execute("DELETE FROM sessions")
        assert await answers(200), "it is cached, and nobody has said that it is over"
        program = await asyncio.create_subprocess_exec(
            sys.executable, EXAMPLES / "producers" / "revoke_session.py", TOKEN,
            env={**os.environ, "AMQP_URL": servers.amqp}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, _err = await program.communicate()
        assert told.decode().strip() == session_token_key(sha256(TOKEN.encode()).digest())
        await eventually(lambda: answers(401), "the token is refused")


async def test_no_key_and_no_tag_reaches_what_is_not_a_cached_value(servers: Servers) -> None:
    redis = connect_redis(servers.redis, "test")
    for key in OURS:
        await redis.set(key, "ours")
    await redis.set("t:cached", "theirs to forget")
    named = [{"keys": [name]} for name in (*OURS, *TRICKS)] + [{"tags": [name]} for name in TAGS]
    hidden = [{"keys": ["t:cached", name]} for name in OURS]
    bodies = [event("cache.invalidated", data, source="somebody") for data in (*named, *hidden)]
    async with running(settings_for(servers), Store.REDIS):
        await publish(servers.amqp, "invalidations", [*bodies, event("cache.invalidated", {"keys": ["u:1"]})])
        letters = []

        async def quarantined() -> bool:
            letters.extend(await take_all(servers.amqp, "quarantine"))
            return len(letters) >= len(bodies)

        await eventually(quarantined, "all of them are refused")
    assert len(letters) == len(bodies)
    ids = {json.loads(letter.body)["id"] for letter in letters}
    assert ids == {body["id"] for body in bodies}, "and the harmless one is not among them"
    for letter in letters:
        assert letter.headers["x-reason"] == "invalid_event"
        assert str(letter.headers["x-field"]).startswith(("data.keys", "data.tags"))
        assert "must match" in str(letter.headers["x-error"])
    for key in (*OURS, "t:cached"):
        assert await redis.get(key) is not None, f"{key!r} was reached"
    await redis.aclose()
