"""`streams publish` and `streams tail`, as programs on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from schemas.errors import StreamsError
from schemas.ids import uuid7
from streams.cli.commands import app
from tests.brokers import QUEUE, channel_to, declare, events_of, landed
from tests.support import event, eventually, publish, take_all


def lines_of(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "task.created", "data": {"task_id": str(uuid7()), "kind": f"k{n}"}} for n in range(count)
    ]


def written(path: Path, *lines: Any) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(f"{text}\n")
    return path


def streams(url: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and output of a command, run in this process (which must not be running a loop)."""
    result = CliRunner().invoke(app, arguments, env={"AMQP_URL": url, **environment})
    if isinstance(result.exception, StreamsError):
        return 2, str(result.exception)  # as `streams.cli.main` does
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def landed_in(url: str) -> list[dict[str, Any]]:
    return asyncio.run(landed(url))


@contextmanager
def pipe(text: str) -> Iterator[str]:
    """The path of a pipe that gives this text."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as file:
        file.write(text.encode())
        file.close()
        yield f"/dev/fd/{reading}"


@pytest.fixture
async def url(amqp_url: str) -> str:
    await declare(amqp_url, "tasks")
    return amqp_url


def test_a_file_is_sent_whole(url: str, tmp_path: Path) -> None:
    whole = event("task.created", {"task_id": str(uuid7()), "kind": "whole"}, id="mine", source="elsewhere")
    path = written(tmp_path / "events.ndjson", *lines_of(250), "", whole)
    status, out = streams(url, "publish", str(path), "--source", "import", "--json")
    report = json.loads(out)
    assert (status, report["lines"], report["confirmed"], report["failed"]) == (0, 251, 251, 0)
    messages = asyncio.run(take_all(url, QUEUE))
    events = [each for message in messages for each in events_of(message)]
    assert len(messages) == 4, "a hundred events a message, of one type and source"
    assert [e["data"]["kind"] for e in events] == [*(f"k{n}" for n in range(250)), "whole"]
    assert {e["source"] for e in events[:-1]} == {"import"}
    assert (events[-1]["id"], events[-1]["source"]) == ("mine", "elsewhere")


BAD = [
    {"type": "task.created", "data": {"task_id": "no"}},
    "{",
    {"type": "task.made", "data": {}},
    {"type": "task.started", "time": "2199-01-01T00:00:00Z", "data": {"task_id": str(uuid7())}},
]


def test_nothing_of_a_file_with_an_invalid_line_is_sent(url: str, tmp_path: Path) -> None:
    path = written(tmp_path / "events.ndjson", *lines_of(3), *BAD)
    status, out = streams(url, "publish", str(path))
    assert status == 1
    assert "line 4: data.task_id: must be a UUID (and 1 more)" in out
    assert "line 5: " in out
    assert "line 6: type: 'task.made'" in out
    assert "line 7: time: is dated more than 300 s ahead" in out
    assert "7 lines: 3 valid, 4 invalid; nothing was sent" in out
    assert landed_in(url) == []

    status, out = streams(url, "publish", str(path), "--skip-invalid", "--max-errors", "2")
    assert (status, "... and 2 more invalid lines" in out, len(landed_in(url))) == (0, True, 3)
    status, out = streams(url, "publish", str(path), "--dry-run", "--skip-invalid", "--json")
    assert (status, json.loads(out)["invalid"], landed_in(url)) == (1, 4, [])


def test_a_pipe_ends_at_its_first_chunk_with_an_invalid_line(url: str) -> None:
    good = "\n".join(map(json.dumps, lines_of(20)))
    with pipe(good) as path:
        status, out = streams(url, "publish", "--from-line", "6", path)
    assert (status, "15 confirmed" in out, len(landed_in(url))) == (0, True, 15)
    with pipe(f"{good}\n{{\n{good}") as path:
        status, out = streams(url, "publish", path)
    assert status == 1
    assert "line 21: " in out
    assert len(landed_in(url)) <= 20


def test_a_line_that_never_ends_costs_no_memory(url: str, tmp_path: Path) -> None:
    path = written(tmp_path / "events.ndjson", f'"{"x" * 100_000}"', *lines_of(1))
    limit = {"STREAMS_MAX_MESSAGE_BYTES": "5000"}
    status, out = streams(url, "publish", str(path), "--skip-invalid", **limit)
    assert (status, len(landed_in(url))) == (0, 1)
    assert "line 1: the line is longer than 5000 bytes" in out


@pytest.fixture
async def without_queue(amqp_url: str) -> str:
    async with channel_to(amqp_url) as channel:
        await channel.declare_exchange("tasks", "topic", durable=True)
    return amqp_url


def test_what_is_not_confirmed_is_told_by_its_line(without_queue: str, tmp_path: Path) -> None:
    path = written(tmp_path / "events.ndjson", *lines_of(3))
    status, out = streams(without_queue, "publish", str(path), "--batch", "1")
    assert status == 3
    assert "line 2: not confirmed: no queue takes it" in out
    assert "0 confirmed, 3 not" in out
    status, err = streams("amqp://127.0.0.1:1/", "publish", str(path), "--wait", "0.2")
    assert (status, "not connected to 127.0.0.1:1" in err) == (2, True)
    status, err = streams(without_queue, "publish", str(tmp_path / "none"))
    assert (status, "none: No such file" in err) == (2, True)


async def test_a_rate_is_kept_and_ctrl_c_confirms_what_was_sent(url: str, tmp_path: Path) -> None:
    path = written(tmp_path / "events.ndjson", *lines_of(1000))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "publish", str(path), "--rate", "20", "--json",
        env={**os.environ, "AMQP_URL": url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    seen: list[dict[str, Any]] = []

    async def some_landed() -> bool:
        seen.extend(await landed(url))
        return len(seen) >= 5

    await eventually(some_landed, "the first events land")
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    report = json.loads(out)
    assert process.returncode == 130
    assert report["confirmed"] == report["sent"] == len(seen) + len(await landed(url))
    assert report["sent"] / report["seconds"] < 30


class Tail:
    """A `streams tail` in the background."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))


@asynccontextmanager
async def tailing(url: str, *arguments: str) -> AsyncIterator[Tail]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "tail", *arguments,
        env={**os.environ, "AMQP_URL": url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    assert b"watching" in await asyncio.wait_for(process.stderr.readline(), 60)
    tail = Tail(process)
    reader = asyncio.create_task(tail.read())
    try:
        yield tail
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(reader, 30)
        await process.wait()


async def test_tail_shows_what_comes_and_takes_nothing(url: str) -> None:
    task = str(uuid7())
    nasty = event(
        "task.created", {"task_id": task, "kind": "\x1b[31mred\u202e\x07"}, source="evil\x1b]0;title\x07"
    )
    async with (
        tailing(url, "tasks") as pretty,
        tailing(
            url, "tasks", "--ndjson", "--type", "task.*", "--entity", task, "--source", "evil*"
        ) as filtered,
    ):
        await publish(url, "tasks", [nasty, event("note.taken", {"note_id": str(uuid4())})])
        await publish(url, "tasks", [b"\xff\x1b[2J"], content_type="application/json")
        await eventually(lambda: len(pretty.lines) == 3, "three lines")
        await eventually(lambda: len(filtered.lines) == 1, "one line")
    assert pretty.process.returncode == filtered.process.returncode == 0
    assert "evil\\x1b]0;title" in pretty.lines[0]
    assert all(character.isprintable() for line in pretty.lines for character in line)
    assert "\\u001b[31mred\\u202e" in pretty.lines[0]
    assert "[the message is no JSON]" in pretty.lines[2]
    shown = json.loads(filtered.lines[0])
    assert (shown["exchange"], shown["event"]) == ("tasks", nasty)
    assert len(await take_all(url, QUEUE)) == 3, "the workers' queue has all of them"


def test_tail_says_what_is_missing(amqp_url: str) -> None:
    status, err = streams(amqp_url, "tail", "nowhere")
    assert (status, "no exchange 'nowhere'" in err) == (2, True)


async def test_tail_ends_after_its_count(url: str) -> None:
    async with tailing(url, "tasks", "--count", "2") as tail:
        await publish(url, "tasks", lines_of(5))
        assert await asyncio.wait_for(tail.process.wait(), 30) == 0
    assert len(tail.lines) == 2
