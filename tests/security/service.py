"""Runs worker, updater and API under their own users over TLS, sends marked events, and keeps what is seen.

Everything that must not be repeated begins with `canary`: payloads, event ids, passwords, a bearer token.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aio_pika
import httpx
from typer.testing import CliRunner

from schemas.ids import uuid7
from streams.cache import connect_redis
from streams.cli import commands
from streams.database import connect
from streams.decode import STRUCTURED
from streams.health import free_port
from streams.processes import ProcessGroup
from tests.api_support import add_session
from tests.receivers import Receiver, http_receiver
from tests.security.secured import Secured
from tests.support import depth, event, eventually

PROCESSES: Final = ("worker", "updater", "api")
LETTERS: Final = 6
"""Dead letters that the bad events below make."""


@dataclass
class Evidence:
    """What was seen from outside."""

    logs: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    spans: Receiver = field(default_factory=Receiver)
    served: list[tuple[str, str | None]] = field(default_factory=list)
    """(status, X-Cache) of the task at each look."""
    letters: list[tuple[str, bytes]] = field(default_factory=list)
    """(reason, body)."""
    history: int = 0
    unauthorized: int = 0
    dlq: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    """What Redis has refused to one of our processes."""


def canary(what: str) -> str:
    return f"canary-{what}-{uuid4().hex}"


async def observe(secured: Secured, folder: Path) -> Evidence:
    seen = Evidence()
    await _forget_denials(secured)
    ports = {process: free_port("127.0.0.1") for process in PROCESSES}
    async with AsyncExitStack() as exits:
        seen.spans, exporting = exits.enter_context(http_receiver())
        group = await exits.enter_async_context(ProcessGroup())
        for process, port in ports.items():
            group.start(
                process,
                [sys.executable, "-m", "streams", process],
                env={
                    **os.environ, **exporting, **secured.environment, **secured.urls(process),
                    "STREAMS_HTTP_PORT": str(port), "STREAMS_LOG_LEVEL": "DEBUG", "STREAMS_LOG_JSON": "1",
                },
                log=folder / f"{process}.log",
            )  # fmt: skip
        client = await exits.enter_async_context(httpx.AsyncClient(timeout=10))
        pages = {process: f"http://127.0.0.1:{port}" for process, port in ports.items()}
        await _until_ready(client, group, pages)
        await _good(secured, client, pages["api"], seen)
        await _bad(secured, client, pages["worker"], seen)
        for process, base in pages.items():
            for path in ("/readyz", "/metrics", "/livez", "/nowhere"):
                seen.pages[f"{process}{path}"] = (await client.get(f"{base}{path}")).text
        admin = await connect(secured.stack.urls.database)
        seen.history = await admin.fetchval("SELECT count(*) FROM event_history")
        await admin.close()
        seen.denied = await _denied(secured)
        await group.stop()
    for process in PROCESSES:
        seen.logs[process] = (folder / f"{process}.log").read_text()
    return seen


async def _forget_denials(secured: Secured) -> None:
    """Other tests try on purpose what is not allowed."""
    client = connect_redis(secured.stack.urls.redis, "test")
    try:
        await client.acl_log_reset()
    finally:
        await client.aclose()


async def _denied(secured: Secured) -> list[str]:
    """Some refusals only cost a cache hit: Redis's own record has them all."""
    client = connect_redis(secured.stack.urls.redis, "test")
    try:
        return [f"{entry['username']} {entry['object']}" for entry in await client.acl_log()]
    finally:
        await client.aclose()


async def _until_ready(client: httpx.AsyncClient, group: ProcessGroup, pages: dict[str, str]) -> None:
    async def ready(base: str) -> bool:
        group.check()
        try:
            return (await client.get(f"{base}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    for process, base in pages.items():
        await eventually(lambda base=base: ready(base), f"{process} is ready", 60)  # type: ignore[misc]


async def _good(secured: Secured, client: httpx.AsyncClient, api: str, seen: Evidence) -> None:
    """A task's life, read through the API under a marked token; its end must reach the reader's cache."""
    task_id, token = str(uuid7()), canary("token")
    admin = await connect(secured.stack.urls.database)
    await add_session(admin, token, roles=["operator"])  # type: ignore[arg-type]
    await admin.close()
    url, bearer = f"{api}/v1/tasks/{task_id}", {"Authorization": f"Bearer {token}"}
    seen.unauthorized = (await client.get(url)).status_code
    created = {"task_id": task_id, "kind": canary("kind"), "payload": {canary("key"): canary("payload")}}
    await publish(secured, "tasks", [event("task.created", created, id=canary("id"))])

    async def status() -> str:
        response = await client.get(url, headers=bearer)
        if response.status_code != 200:
            return str(response.status_code)
        seen.served.append((response.json()["status"], response.headers.get("x-cache")))
        return seen.served[-1][0]

    async def is_(wanted: str) -> bool:
        return await status() == wanted

    await eventually(lambda: is_("pending"), "the task is served", 30)
    await status()  # from Redis by now
    done = {"task_id": task_id, "result": {"text": canary("result")}}
    await publish(secured, "tasks", [event("task.completed", done)])
    await eventually(lambda: is_("completed"), "the cached task is made stale", 30)
    agents = f"{api}/v1/agents"

    async def cached() -> bool:
        """By tags, which take other commands of Redis than keys do."""
        return (await client.get(agents, headers=bearer)).headers.get("x-cache") == "hit"

    await eventually(cached, "the list of agents is served from Redis")
    round_id, agent = str(uuid7()), str(uuid4())
    opened = {"round_id": round_id, "options": [canary("option"), "no"], "quorum": 1}
    vote = {"round_id": round_id, "agent_id": agent, "choice": "no", "rationale": canary("rationale")}
    await publish(secured, "votes", [event("round.opened", opened), event("vote.cast", vote, seconds=1)])


async def _bad(secured: Secured, client: httpx.AsyncClient, worker: str, seen: Evidence) -> None:
    """Events that decoding, a handler and the database refuse; each must end as a dead letter."""
    names = [f"{how} {canary(how)}" for how in ("raise", "check", "text")]
    agents = [event("agent.registered", {"agent_id": str(uuid4()), "name": name}) for name in names]
    good = event("agent.registered", {"agent_id": str(uuid4()), "name": canary("name")})
    wrong = {"task_id": str(uuid7()), "kind": "k", "priority": canary("priority")}
    await publish(secured, "agents", agents[:1])

    async def paused() -> bool:
        """While nothing but this event is tried, the handler itself is suspected."""
        seen.pages["worker/paused"] = (await client.get(f"{worker}/readyz")).text
        return "paused" in seen.pages["worker/paused"]

    await eventually(paused, "the worker reports what it waits for")
    await publish(secured, "agents", [good, *agents[1:]])
    await publish(
        secured,
        "tasks",
        [
            event("task.created", wrong),
            event("task.created", {"task_id": canary("task"), "kind": "k"}),
            canary("no json").encode(),
        ],
    )
    url = secured.settings(amqp_url=secured.amqp("operator")).amqp_url
    assert url is not None
    async with await aio_pika.connect(url.get_secret_value()) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("quarantine", ensure=False)

        async def all_there() -> bool:
            while (letter := await queue.get(fail=False)) is not None:
                await letter.ack()
                seen.letters.append((str(letter.headers["x-reason"]), letter.body))
            return len(seen.letters) >= LETTERS

        await eventually(all_there, f"{LETTERS} dead letters", 40)
    seen.dlq = await _operate(secured, url.get_secret_value())


async def _operate(secured: Secured, url: str) -> list[str]:
    """What `streams dlq` says to an operator about one more dead letter."""

    async def dlq(*arguments: str) -> str:
        runner = CliRunner()
        result = await asyncio.to_thread(
            runner.invoke, commands.app, ["dlq", *arguments], env={"AMQP_URL": url}
        )
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        return result.output

    async def there() -> bool:
        return await depth(url, "quarantine") == 1

    wrong = {"task_id": canary("task"), "kind": "k"}
    await publish(secured, "tasks", [event("task.created", wrong)])
    await eventually(there, "one more dead letter")
    said = [await dlq("list", "--json"), await dlq("replay", "--all")]
    await eventually(there, "the replayed event is refused again")
    return [
        *said,
        await dlq("list", "--json"),
        await dlq("drop", "--all", "--yes"),
        await dlq("list", "--json"),
    ]


async def publish(secured: Secured, exchange: str, bodies: Sequence[Any], user: str = "producer") -> None:
    """Publish as a producer of ours would, with its own user; the routing key is the type."""
    url = secured.settings(amqp_url=secured.amqp(user)).amqp_url
    assert url is not None
    async with await aio_pika.connect(url.get_secret_value()) as connection:
        channel = await connection.channel(on_return_raises=True)
        target = await channel.get_exchange(exchange, ensure=False)
        for body in bodies:
            message = aio_pika.Message(
                body if isinstance(body, bytes) else json.dumps(body).encode(),
                content_type=STRUCTURED,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=canary("bytes") if isinstance(body, bytes) else body["id"],
                headers={"x-canary": canary("header"), "baggage": f"user={canary('baggage')}"},
            )
            key = "task.created" if isinstance(body, bytes) else body["type"]
            await target.publish(message, key)
