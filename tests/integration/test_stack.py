"""The local stack, with real servers: what it starts, refuses, survives and leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import redis.asyncio

from streams.stack import SERVICES, LocalStack, StackError, StackUrls, guard, local
from streams.stack.state import State

# ::1 in the kernel's notation: the port mapper always listens there, too.
LOOPBACK = {"127.0.0.1", "00000000000000000000000001000000"}

CHECKOUT = Path(__file__).resolve().parents[2]

SUPERVISOR = """
import json, signal, sys
from dataclasses import asdict
from pathlib import Path
from streams.stack import LocalStack

stack = LocalStack("supervised", Path(sys.argv[1]), unique=sys.argv[2:] == ["stop"])
print(json.dumps(asdict(stack.start()) | {"folder": str(stack.folder)}), flush=True)
if sys.argv[2:] != ["stop"]:
    signal.pause()
stack.stop()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed, and long."""
    path = Path(tempfile.mkdtemp(prefix="stack-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def eventually(condition: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def processes_of(folder: Path) -> set[guard.Process]:
    return guard.members(folder, guard.read_leaders(folder).values())


async def write_everywhere(urls: StackUrls) -> None:
    """Leave a mark in each server that a restart has to keep."""
    database = await asyncpg.connect(urls.database)
    await database.execute("CREATE TABLE mark (n int); INSERT INTO mark VALUES (1)")
    await database.close()
    client = redis.asyncio.from_url(urls.redis)
    await client.set("mark", "1")
    await client.aclose()
    async with httpx.AsyncClient(base_url=urls.management, timeout=10) as management:
        queue = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
        (await management.put("/api/queues/%2F/mark", json=queue)).raise_for_status()


async def find_everywhere(urls: StackUrls) -> None:
    database = await asyncpg.connect(urls.database)
    assert await database.fetchval("SELECT n FROM mark") == 1
    await database.close()
    client = redis.asyncio.from_url(urls.redis, decode_responses=True)
    assert await client.get("mark") == "1"
    await client.aclose()
    async with httpx.AsyncClient(base_url=urls.management, timeout=10) as management:
        (await management.get("/api/queues/%2F/mark")).raise_for_status()


STANDARD_PORTS = (5432, 6379, 5672, 15672, 15692, 25672, 4369)


@pytest.fixture
def standard_ports() -> Iterator[None]:
    """Someone else on every port that the servers take by default."""
    with ExitStack() as taken:
        for port in STANDARD_PORTS:
            listener = taken.enter_context(socket.socket())
            # If it fails, a server is there already, which is as good.
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                listener.listen()
        yield


@pytest.mark.usefixtures("standard_ports")
async def test_is_configured_as_production_on_loopback_only_and_for_one_user_at_a_time(place: Path) -> None:
    stack = LocalStack("one", place / "one")
    with stack as urls:
        assert not {urlsplit(url).port for url in vars(urls).values()} & set(STANDARD_PORTS)
        assert listening_addresses({process.pid for process in processes_of(stack.folder)}) <= LOOPBACK
        database = await asyncpg.connect(urls.database)
        for setting, value in {
            "fsync": "on", "synchronous_commit": "on", "track_commit_timestamp": "on", "jit": "off",
            "TimeZone": "UTC", "shared_preload_libraries": "pg_stat_statements",
            "data_checksums": "on", "password_encryption": "scram-sha-256",
        }.items():  # fmt: skip
            assert await database.fetchval(f"SHOW {setting}") == value
        await database.close()
        client = redis.asyncio.from_url(urls.redis, decode_responses=True)
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "volatile-lru"
        assert (await client.config_get("appendfsync"))["appendfsync"] == "everysec"
        await client.aclose()
        second = LocalStack("one", place / "one")
        with pytest.raises(StackError, match=f"in use by process {os.getpid()}"):
            second.start()
        with pytest.raises(StackError, match=f"in use by process {os.getpid()}"):
            second.stop()
        assert second.status().state == "up"
        assert second.status().owner == os.getpid()
        assert stat.S_IMODE((stack.folder / "secrets.json").stat().st_mode) == 0o600
    assert not processes_of(stack.folder)
    assert stack.status().state == "down"
    stack.stop()  # once more does no harm


def listening_addresses(pids: set[int]) -> set[str]:
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                target = os.readlink(link)
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                addresses.add(socket.inet_ntoa(raw[::-1]) if table == "tcp" else raw.hex())
    return addresses


async def test_two_side_by_side_where_one_loses_its_servers_and_gets_them_back(place: Path) -> None:
    steady = LocalStack("side", place / "side", unique=True)
    tried = LocalStack("side", place / "side", unique=True)
    with steady as first, tried as second:
        ports = [urlsplit(url).port for urls in (first, second) for url in vars(urls).values()]
        assert len(set(ports)) == len(ports)
        await write_everywhere(first)
        await write_everywhere(second)
        # Killed within a second of its last write Redis may lose it; only an orderly stop promises more.
        tried.stop_service("redis")
        tried.start_service("redis")
        # A backend that computes does not notice that its parent is gone: no server starts on its data.
        busy = await asyncpg.connect(second.database)
        endless = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 1e15::bigint)"))
        await until_busy(second.database, busy.get_server_pid())
        for service in SERVICES:
            tried.kill(service)
            assert tried.status().state != "up"
            tried.start_service(service)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await endless
        assert tried.status().state == "up"
        await find_everywhere(second)
        await find_everywhere(first)
    for stack in (steady, tried):
        assert not stack.folder.exists()
        assert not processes_of(stack.folder)


async def until_busy(url: str, pid: int) -> None:
    """Wait until a backend is seen to execute a statement."""
    watch = await asyncpg.connect(url)
    state = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1"
    async with asyncio.timeout(10):
        while not await watch.fetchval(state, pid):
            pass
    await watch.close()


def supervisor(folder: Path, *more: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder), *more],
        stdout=subprocess.PIPE, text=True, **{"cwd": CHECKOUT, **options},
    )  # fmt: skip


def first_line(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the supervisor ended without a word"
    told: dict[str, str] = json.loads(line)
    return told


def finish(process: subprocess.Popen[str], *, number: int | None = None) -> int:
    with process:
        if number is not None:
            process.send_signal(number)
        return process.wait(timeout=40)


async def test_killed_supervisors_leave_nothing_that_lives_on_or_hinders_the_next_start(place: Path) -> None:
    first = supervisor(place / "killed")
    told = first_line(first)
    folder = Path(told.pop("folder"))
    assert len(processes_of(folder)) > 6  # three servers, the port mapper, PostgreSQL's helpers and the like
    await write_everywhere(StackUrls(**told))
    finish(first, number=signal.SIGKILL)
    eventually(lambda: not processes_of(folder))

    # Worse: the guard is killed, too.
    second = supervisor(place / "killed")
    first_line(second)
    for pid in guard_pids(folder):
        os.kill(pid, signal.SIGKILL)
    finish(second, number=signal.SIGKILL)
    orphans = processes_of(folder)
    assert len(orphans) > 6

    # The next start cleans up. This one is to stay until it is told to stop, by whomever.
    urls = LocalStack("killed", place / "killed", die_with_parent=False).start()
    assert not orphans & processes_of(folder)
    await find_everywhere(urls)
    other = LocalStack("killed", place / "killed")
    assert (other.status().state, other.status().owner) == ("up", None)
    with pytest.raises(StackError, match="is up already"):
        other.start()
    assert LocalStack("killed", place / "killed", die_with_parent=False).start() == urls
    other.stop()
    assert not processes_of(folder)
    for child in local.RELEASED:
        child.wait()  # this process lives on as their parent and has to collect them


def guard_pids(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if guard.__file__.encode() in arguments and bytes(folder) in arguments:
                found.append(int(entry.name))
    return found


def test_an_ordinary_user_in_a_checkout_that_the_account_owns(place: Path) -> None:
    copy = place / "a checkout"  # RabbitMQ's scripts cannot work in a folder with a blank: it goes elsewhere
    for name in ("streams", "schemas", "infra"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    # The interpreter may lie in a folder that only root enters; then the system's own has to do.
    options: dict[str, Any] = {"cwd": copy, "env": {"PATH": os.environ["PATH"], "HOME": str(place / "home")}}
    (place / "home").mkdir()
    interpreter = sys.executable
    if os.geteuid() == 0:
        options |= {"user": 65534, "group": 65534, "extra_groups": []}
        interpreter = "/usr/bin/python3"
        for path in (copy, place / "home"):
            for folder, _, files in os.walk(path):
                for each in (folder, *(f"{folder}/{name}" for name in files)):
                    os.chown(each, 65534, 65534)
    # The stack alone, without its package's dependencies, which that interpreter need not have.
    (copy / "streams" / "__init__.py").write_text("")
    command = [interpreter, "-c", SUPERVISOR, str(copy / ".stack" / "mine"), "stop"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    used = Path(json.loads(done.stdout)["folder"])
    assert used.is_relative_to(place / "home")
    assert not processes_of(used)


def test_a_server_that_does_not_come_up_is_named_with_the_end_of_its_log(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streams.stack.postgres import Postgres

    command = Postgres.command
    monkeypatch.setattr(Postgres, "command", lambda self: [*command(self), "-c", "no_such_setting=1"])
    stack = LocalStack("broken", place / "broken", unique=True)
    with pytest.raises(StackError, match=r"(?s)postgres ended with status .*no_such_setting"):
        stack.start()
    assert not stack.folder.exists()


def test_secrets_stay_out_of_reprs_and_of_others_reach(place: Path) -> None:
    urls = StackUrls(
        "amqp://u:sesame@h:1/%2F", "postgresql://u:sesame@h/d", "redis://:sesame@h:1/0", "http://u:sesame@h"
    )
    assert "sesame" not in repr(urls)
    assert "sesame" in urls.database
    assert "sesame" not in json.dumps(urls.masked())


def test_a_damaged_state_file_reads_as_none(place: Path) -> None:
    for content in ("", "[]", "{}", '{"processes": {"redis": 1}}'):
        (place / guard.STATE_FILE).write_text(content)
        assert State.load(place) is None
        assert guard.read_leaders(place) == {}
