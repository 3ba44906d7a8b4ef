"""The containers' commands, with compose.yaml's environment and the secrets made for it, on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import redis.asyncio

from streams.health import free_port
from streams.stack import StackUrls
from tests.deploy import compose
from tests.deploy.compose import INFRA
from tests.support import depth, event, eventually, publish

SECRETS = runpy.run_path(str(INFRA / "compose" / "make_secrets.py"))
STREAMS = str(Path(sys.executable).parent / "streams")
_PATIENCE = 100  # seconds; on a quiet machine each step takes a few


@pytest.fixture
async def secrets(stack: StackUrls, amqp_url: str, tmp_path: Path) -> AsyncIterator[Path]:
    """A folder of secrets for the test's servers, which have been given their part of them."""
    async with AsyncExitStack() as undo:
        database = await undo.enter_async_context(_empty_database(stack.database))
        vhost = urlsplit(amqp_url).path
        hosts = {
            "postgres": urlsplit(database).netloc.rpartition("@")[2],
            "rabbitmq": urlsplit(amqp_url).netloc.rpartition("@")[2],
            "redis": urlsplit(stack.redis).netloc.rpartition("@")[2],
        }
        files = SECRETS["make"]({name: f"{name}-pw" for name in SECRETS["names"]()}, hosts)
        for name, content in files.items():
            text = content.replace("/%2F", vhost) if name.startswith("amqp-") else content
            if name.startswith("database-"):
                text = urlunsplit(urlsplit(text)._replace(path=urlsplit(database).path))
            (tmp_path / name).write_text(text)
        await undo.enter_async_context(_logins(database, files["postgres-passwords.sql"]))
        await undo.enter_async_context(_rabbitmq_users(stack, files["rabbitmq-definitions.json"], vhost[1:]))
        await undo.enter_async_context(_redis_users(stack.redis, files["redis-users.acl"]))
        (tmp_path / "admin").write_text(database)
        yield tmp_path


@pytest.mark.timeout(400)
async def test_the_services_start_answer_their_health_checks_and_stop(secrets: Path, amqp_url: str) -> None:
    for name in ("migrate", "topology"):
        done = await asyncio.to_thread(_run, name, secrets)
        assert done.returncode == 0, done.stderr[-500:]
    ports = {name: free_port("127.0.0.1") for name in ("worker", "updater", "api")}
    running = {name: _start(name, secrets, port) for name, port in ports.items()}
    try:
        for name, port in ports.items():
            await eventually(lambda n=name, p=port: _healthy(n, p), f"{name}'s health check", _PATIENCE)
        task = "0199a1b2-c3d4-7abc-8def-0123456789ab"
        await publish(amqp_url, "tasks", [event("task.failed", {"task_id": task, "bogus": 1})])
        await eventually(lambda: _letters(amqp_url), "the worker has taken it", _PATIENCE)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in running.items():
            _, said = await asyncio.to_thread(process.communicate, timeout=_PATIENCE)
            assert process.returncode == 0, (name, said[-800:])
            assert "-pw" not in said, "a password in the log"


def _environment(name: str, secrets: Path, port: int | None = None) -> dict[str, str]:
    """A service's environment; its secrets lie elsewhere here, and nobody takes spans."""
    given = {
        key: str(value).replace("/run/secrets", str(secrets))
        for key, value in compose.service(name)["environment"].items()
        if not key.startswith("OTEL_")
    }
    if port is not None:
        given |= {"STREAMS_HTTP_HOST": "127.0.0.1", "STREAMS_HTTP_PORT": str(port)}
    # As in a container: nothing else, and nothing of ours.
    return {"PATH": os.environ["PATH"], **given}


def _run(name: str, secrets: Path) -> subprocess.CompletedProcess[str]:
    command = [STREAMS, *compose.service(name)["command"]]
    environment = _environment(name, secrets)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE
    )


def _start(name: str, secrets: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [STREAMS, *compose.service(name)["command"]],
        env=_environment(name, secrets, port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


async def _healthy(name: str, port: int) -> bool:
    """The very command of the health check, at this port."""
    kind, _, *arguments = compose.service(name)["healthcheck"]["test"]
    assert kind == "CMD"
    asked = [argument.replace(":8080/", f":{port}/") for argument in arguments]
    process = await asyncio.create_subprocess_exec(sys.executable, *asked, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


async def _letters(amqp_url: str) -> bool:
    return await depth(amqp_url, "quarantine") == 1


@asynccontextmanager
async def _empty_database(server: str) -> AsyncIterator[str]:
    name = f"streams_compose_{os.getpid()}"
    admin = await asyncpg.connect(urlunsplit(urlsplit(server)._replace(path="/postgres")))
    await admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for name in SECRETS["postgres_users"]():
            await admin.execute(f"DROP ROLE IF EXISTS streams_{name}")
        await admin.close()


@asynccontextmanager
async def _logins(database: str, passwords: str) -> AsyncIterator[None]:
    """What the image's first start runs: logins.sql, then the verifiers."""
    admin = await asyncpg.connect(database)
    await admin.execute((INFRA / "postgres" / "logins.sql").read_text())
    await admin.execute(passwords)
    await admin.close()
    yield


@asynccontextmanager
async def _rabbitmq_users(stack: StackUrls, definitions: str, vhost: str) -> AsyncIterator[None]:
    wanted: dict[str, Any] = json.loads(definitions)
    for entry in (*wanted["permissions"], *wanted["topic_permissions"]):
        entry["vhost"] = vhost
    wanted["vhosts"] = []
    async with httpx.AsyncClient(base_url=stack.management, timeout=30) as http:
        (await http.post("/api/definitions", json=wanted)).raise_for_status()
        try:
            yield
        finally:
            for user in wanted["users"]:
                await http.delete(f"/api/users/{user['name']}")


@asynccontextmanager
async def _redis_users(url: str, users: str) -> AsyncIterator[None]:
    lines = [line for line in users.splitlines() if not line.startswith("user default ")]
    async with redis.asyncio.from_url(url) as client:
        for line in lines:
            # What stands in parentheses, a selector, is one argument.
            _, name, *rules = re.findall(r"\([^)]*\)|\S+", line)
            await client.execute_command("ACL", "SETUSER", name, *rules)
        try:
            yield
        finally:
            await client.execute_command("ACL", "DELUSER", *(line.split()[1] for line in lines))
