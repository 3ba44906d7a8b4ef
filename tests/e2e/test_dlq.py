"""Dead letters as an operator meets them: real workers refuse events, `streams dlq` deals with them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
import structlog
from typer.testing import CliRunner

from schemas.contract import Store
from schemas.errors import Reason
from streams.amqp import tolerate_any_property
from streams.cli import app
from streams.decode import BATCH, BINARY, STRUCTURED
from streams.dlq import browse
from streams.registry import load_subscriptions
from streams.topology import DELIVERY_LIMIT, Topology
from tests.conftest import Servers
from tests.e2e import troubled
from tests.e2e.test_engine import NOTES, note
from tests.receivers import Receiver
from tests.support import depth, eventually, publish, running, settings_for, take_all

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    troubled.attempts.clear()
    troubled.broken = troubled.fixed = False
    with structlog.testing.capture_logs():  # the worker's lines must not land in a command's output
        yield


@pytest.fixture
def dlq(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `streams dlq ...`; its exit status and its output."""
    monkeypatch.setenv("AMQP_URL", servers.amqp)
    monkeypatch.setenv("COLUMNS", "80")

    async def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["dlq", *arguments], input=answer)
        return result.exit_code, result.output or str(result.exception)

    return run


async def _is(value: Any, expected: int) -> bool:
    return bool(await value == expected)


async def _stored(database: asyncpg.Pool) -> dict[str, int]:
    """How often each event is in the history."""
    rows = await database.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY 1")
    return {row["event_id"]: row["n"] for row in rows}


async def _refused(servers: Servers, count: int) -> None:
    await eventually(lambda: _is(depth(servers.amqp, "quarantine"), count), f"{count} are quarantined")


async def test_an_event_is_refused_understood_repaired_and_replayed(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    array = [note(), note("refuse"), note()]
    binary = note("refuse")
    own = {"cloudEvents:time": binary["time"], "x-reason": "mine", "ratio": 0.1, "tenant": {"id": 7}}
    spaced = json.dumps(array, indent=3).encode()  # not as our own encoder would write it
    span = f"00-{'a' * 32}-{'b' * 16}-01"
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [spaced], content_type=BATCH, headers={"traceparent": span})
        await publish(
            servers.amqp, "notes", [binary["data"]], content_type=BINARY, message_id="m-1",
            type="note.taken", app_id="pika", correlation_id="c-1", priority=3,
            headers=own,
        )  # fmt: skip
        await _refused(servers, 2)

        status, output = await dlq("list", "--json")
        assert status == 0
        letters = {letter["event_id"]: letter for letter in json.loads(output)["letters"]}
        assert set(letters) == {array[1]["id"], "m-1"}
        letter = letters[array[1]["id"]]
        assert letter["reason"] == "refused"
        assert letter["error"] == "data.trouble: cannot be applied"
        assert (letter["field"], letter["type"]) == ("data.trouble", "note.taken")
        assert (letter["exchange"], letter["routing_key"]) == ("notes", "test")
        assert (letter["queue"], letter["replays"], letter["trace_id"]) == (
            "troubled.record_notes", 0, "a" * 32,
        )  # fmt: skip
        assert letter["first_seen"] <= letter["quarantined"][:19] + "z"

        shown = json.loads((await dlq("show", letter["id"][:8], "--json"))[1])
        assert shown["payload"].encode() in spaced
        assert json.loads(shown["payload"]) == array[1]
        original = json.loads((await dlq("show", "m-1", "--json"))[1])
        assert original["properties"]["headers"]["x-reason"] == "mine"

        replayed = await _tap(servers, "notes")
        troubled.fixed = True
        assert (await dlq("replay", "--reason", "refused", "--dry-run"))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 2
        status, output = await dlq("replay", "--reason", "refused", "--json")
        assert (status, json.loads(output)["total"]) == (0, 2)
        await eventually(lambda: _is(_count(database), 4), "the repaired events are stored")
        assert (await dlq("list"))[1] == "No dead letters.\n"
    assert set((await _stored(database)).values()) == {1}

    by_id = {message.message_id: message for message in await take_all(servers.amqp, replayed)}
    element, whole = by_id[array[1]["id"]], by_id["m-1"]
    assert (element.content_type, element.body) == (STRUCTURED, shown["payload"].encode())
    assert (whole.content_type, whole.app_id, whole.correlation_id, whole.priority, whole.routing_key) == (
        BINARY, "pika", "c-1", 3, "test",
    )  # fmt: skip
    assert json.loads(whole.body) == binary["data"]
    headers = dict(whole.headers)
    assert headers.pop("x-replays") == 1
    assert headers.pop("x-first-seen")
    assert headers == own
    assert element.headers["traceparent"] == span
    assert element.headers["x-replay-of"][3:35] == "a" * 32


async def test_a_replayed_event_is_linked_to_its_first_trace(
    servers: Servers, database: asyncpg.Pool, dlq: Run, over_grpc: Receiver
) -> None:
    name = "process troubled.record_notes"
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [note("refuse")])
        for replays in range(2):  # the second replay is linked to the first time, too
            await _refused(servers, 1)
            troubled.fixed = replays == 1
            assert (await dlq("replay", "--all"))[0] == 0
        await eventually(lambda: _is(_count(database), 1), "it is stored")
    first, *replayed = [span for span in over_grpc.spans if span.name == name]
    assert len(replayed) == 2
    for span in replayed:
        assert span.trace_id != first.trace_id, "a letter may be replayed after days"
        assert (first.trace_id, first.span_id) in {(link.trace_id, link.span_id) for link in span.links}


async def test_a_message_without_an_id_has_the_same_one_each_time(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    """The library would invent another one for each replay, and each would be another event."""
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        original = {
            "type": "note.taken",
            "app_id": "x",
            "content_type": BINARY,
            "timestamp": datetime.now(UTC),
        }
        headers = {"x-original": original, "x-reason": "refused", "x-exchange": "notes", "x-queue": "q"}
        letter = aio_pika.Message(
            json.dumps(note()["data"]).encode(), content_type=BINARY, delivery_mode=2,
            message_id=str(uuid4()), headers=headers,
        )  # fmt: skip
        tap = await _tap(servers, "notes")
        for _ in range(2):
            await exchange.publish(letter, "x")
            assert (await dlq("replay", "--all"))[0] == 0
    sent = await take_all(servers.amqp, tap)
    assert [message.message_id for message in sent] == [letter.message_id] * 2


async def test_letters_that_share_a_message_id_are_not_taken_for_each_other(
    servers: Servers, dlq: Run
) -> None:
    """The library tells returned messages by their ids: the one that no queue takes has to stay."""
    async with _broker(servers) as channel:
        await channel.declare_exchange("loose", "topic", durable=True)
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        for number in range(20):
            target = "loose" if number % 2 else "notes"
            headers = {"x-original": {"message_id": "m"}, "x-reason": "refused", "x-exchange": target}
            letter = aio_pika.Message(
                b"{}", content_type=STRUCTURED, message_id=str(uuid4()), delivery_mode=2, headers=headers
            )
            await exchange.publish(letter, "x")
        status, output = await dlq("replay", "--all", "--json")
        assert status == 1
        assert json.loads(output)["failed"] == {"no queue takes it on exchange 'loose'": 10}
        assert await depth(servers.amqp, "troubled.record_notes") == 10
        await _refused(servers, 10)
        await channel.exchange_delete("loose")
        status, output = await dlq("replay", "--all")
        assert status == 1
        assert "there is no exchange 'loose' any more" in output
        await _refused(servers, 10)


async def test_a_letter_that_comes_back_tells_so_and_is_not_replayed_in_circles(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [note("refuse") for _ in range(19)])
        binary = note("refuse")
        await publish(
            servers.amqp, "notes", [binary["data"]], content_type=BINARY, message_id="1", type="note.taken",
            app_id="pika", headers={"cloudEvents:time": binary["time"]},
        )  # fmt: skip
        await _refused(servers, 20)
        before = json.loads((await dlq("list", "--json"))[1])["letters"]
        for round_ in (1, 2):
            status, output = await dlq("replay", "--all", "--json")
            assert (status, json.loads(output)["total"]) == (0, 20)
            await _refused(servers, 20)
            after = json.loads((await dlq("list", "--json"))[1])["letters"]
            assert {letter["replays"] for letter in after} == {round_}
        assert {letter["id"] for letter in after} == {letter["id"] for letter in before}
        first_seen = {letter["id"]: letter["first_seen"] for letter in before}
        assert {letter["id"]: letter["first_seen"] for letter in after} == first_seen
        assert "replayed 2 ×" in " ".join((await dlq("list"))[1].split())


async def test_the_same_letter_twice_is_one_letter(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    """A worker that dies between the letter's confirm and its acknowledgement writes it again."""
    events = [note("refuse") for _ in range(3)]
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", events)
        await _refused(servers, 3)
        await publish(servers.amqp, "notes", events)  # as the broker would deliver them again
        await _refused(servers, 6)
        listed = json.loads((await dlq("list", "--json"))[1])
        assert listed["total"] == 3
        assert [letter["copies"] for letter in listed["letters"]] == [2, 2, 2]
        first, second = events[0]["id"], events[1]["id"]
        assert (await dlq("drop", "--id", first, "--yes"))[1].split()[-2:] == ["1", "dropped"]
        assert await depth(servers.amqp, "quarantine") == 4
        replayed = await _tap(servers, "notes")
        troubled.fixed = True
        assert (await dlq("replay", "--id", second))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 2
        await eventually(lambda: _is(_count(database), 1), "it is stored")
    assert len(await take_all(servers.amqp, replayed)) == 1
    assert await _stored(database) == {second: 1}


async def test_a_replay_that_is_killed_at_any_moment_is_repeated_without_harm(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    events = [note("refuse") for _ in range(200)]
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [events], content_type=BATCH)
        await _refused(servers, 200)
        troubled.fixed = True
        for enough in (1, 80):
            replayer = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "streams", "dlq", "replay", "--all", "--rate", "200",
                env=os.environ | servers.environment,
            )  # fmt: skip
            await eventually(lambda goal=enough: _at_least(database, goal), "some are stored")  # type: ignore[misc]
            replayer.kill()
            await replayer.wait()
        left = await depth(servers.amqp, "quarantine")
        assert 0 < left < 200
        status, _ = await dlq("replay", "--all")
        assert status == 0
        await eventually(lambda: _is(_count(database), 200), "all are stored")
        assert await depth(servers.amqp, "quarantine") == 0
    assert set((await _stored(database)).values()) == {1}


async def test_a_confirm_that_is_not_followed_by_an_acknowledgement_is_harmless(
    servers: Servers, database: asyncpg.Pool, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = note("refuse")
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [event])
        await _refused(servers, 1)
        troubled.fixed = True

        async def lost(_: object) -> None:
            raise ConnectionError("gone")

        with monkeypatch.context() as patch:
            patch.setattr(browse.Held, "take_out", lost)
            status, _ = await dlq("replay", "--all")
        assert status != 0
        await eventually(lambda: _is(_count(database), 1), "it is stored")
        await _refused(servers, 1)
        assert (await dlq("replay", "--all"))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 0
        await eventually(lambda: _is(depth(servers.amqp, "troubled.record_notes"), 0), "it is consumed")
    assert await _stored(database) == {event["id"]: 1}


async def test_letters_that_the_broker_wrote_have_reasons_and_go_back(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    forged = {"x-reason": "refused", "x-exchange": "evil", "x-original": {}, "x-replays": 2**40}
    limited, stray, expired, foreign = note(), note(), note(), note()
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        queue = await channel.get_queue("troubled.record_notes", ensure=False)
        await _publish(exchange, limited, headers=forged)
        for _ in range(DELIVERY_LIMIT + 1):
            await (await _get(queue)).reject(requeue=True)
        await _refused(servers, 1)
        await _publish(exchange, expired, expiration=0.001, headers={"x-death": [{"queue": "evil"}]})
        await _refused(servers, 2)
        await queue.unbind("notes", "#")
        await _publish(exchange, stray, headers=forged)
        await _publish(await channel.get_exchange("dead-letters", ensure=False), foreign)
        await _refused(servers, 4)
        await queue.bind("notes", "#")

    listed = json.loads((await dlq("list", "--json"))[1])["letters"]
    found = {letter["event_id"]: letter for letter in listed}
    assert {name: (letter["reason"], letter["exchange"]) for name, letter in found.items()} == {
        limited["id"]: ("delivery_limit", "notes"),
        expired["id"]: ("expired", ""),  # with a forged history it only goes to its queue
        stray["id"]: ("unroutable", "notes"),
        foreign["id"]: ("foreign", None),
    }
    assert {letter["type"] for letter in listed} == {"note.taken"}
    assert {letter["queue"] for letter in listed} == {"troubled.record_notes", ""}
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        status, output = await dlq("replay", "--all")
        assert status == 1
        assert "stay in quarantine: nothing says where it came from" in output
        await eventually(lambda: _is(_count(database), 3), "the three are stored")
    assert set(await _stored(database)) == {limited["id"], stray["id"], expired["id"]}
    assert await depth(servers.amqp, "quarantine") == 1


async def test_a_forged_history_of_deaths_sends_nothing_elsewhere(servers: Servers, dlq: Run) -> None:
    forged = [{"queue": "troubled.record_notes", "reason": "expired", "exchange": "agents", "count": 1,
               "routing-keys": ["agent.registered"]}]  # fmt: skip
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        first = {f"x-first-death-{name}": value for name, value in forged[0].items() if name != "count"}
        await _publish(exchange, note(), expiration=0.001, headers={"x-death": forged, **first})
        await _refused(servers, 1)
    assert json.loads((await dlq("list", "--json"))[1])["letters"][0]["exchange"] == ""
    assert (await dlq("replay", "--all"))[0] == 0
    assert await depth(servers.amqp, "troubled.record_notes") == 1


async def test_looking_changes_nothing(
    servers: Servers, database: asyncpg.Pool, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_LARGEST_WINDOW", 150)
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        for start in range(0, 1000, 500):
            await asyncio.gather(
                *(
                    _publish(exchange, {"n": n}, type=f"t{n % 3}", message_id=str(n))
                    for n in range(start, start + 500)
                )
            )
    for _ in range(3):
        listed = json.loads((await dlq("list", "--json", "--limit", "5000"))[1])
        assert [letter["event_id"] for letter in listed["letters"]] == [str(n) for n in range(1000)]
    assert (await dlq("show", "999"))[0] == 0
    assert (await dlq("drop", "--all", "--dry-run"))[1].split()[-4:] == ["1,000", "would", "be", "dropped"]
    status, _ = await dlq("drop", "--type", "t1", "--limit", "10", "--yes")
    assert status == 0
    left = await take_all(servers.amqp, "quarantine")
    dropped = {str(n) for n in range(1, 30, 3)}
    assert [letter.message_id for letter in left] == [str(n) for n in range(1000) if str(n) not in dropped]
    assert max(int(letter.headers["x-delivery-count"]) for letter in left) <= 7  # type: ignore[arg-type]


async def test_a_replay_keeps_to_its_rate_and_its_limit(servers: Servers, dlq: Run) -> None:
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        queue = await channel.get_queue("troubled.record_notes", ensure=False)
        await queue.unbind("notes", "#")
        await asyncio.gather(*(_publish(exchange, note()) for _ in range(30)))
        await queue.bind("notes", "#")
    started = time.perf_counter()
    status, output = await dlq("replay", "--reason", "unroutable", "--rate", "20", "--limit", "11", "--json")
    assert time.perf_counter() - started >= 0.5
    assert (status, json.loads(output)["total"]) == (0, 11)
    assert await depth(servers.amqp, "troubled.record_notes") == 11
    assert await depth(servers.amqp, "quarantine") == 19


async def test_what_strangers_wrote_never_reaches_a_terminal_as_it_is(servers: Servers, dlq: Run) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\u202e\u200b[red]"
    nasty = note(evil, id=evil, type=evil)
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        bodies = [nasty, b"\xff\x1b[2J not utf-8"]
        await publish(
            servers.amqp, "notes", bodies, headers={evil[:20]: evil}, message_id=evil, app_id=evil, type=evil
        )
        await _refused(servers, 2)
    outputs = [(await dlq("list"))[1], (await dlq("list", "--json"))[1]]
    for letter in json.loads(outputs[1])["letters"]:
        outputs.append((await dlq("show", letter["id"]))[1])
        outputs.append((await dlq("show", letter["id"], "--json"))[1])
    for output in outputs:
        assert [c for c in output if not c.isprintable() and c != "\n"] == []
    assert all(len(line) <= 80 for line in outputs[0].splitlines())
    assert "\\x1b[2J" in outputs[0]
    assert "[red]" in outputs[2]


async def test_mistakes_are_told_in_a_sentence(
    servers: Servers, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, words in [
        (("list",), "there is no queue 'quarantine' here"),
        (("replay",), "which letters?"),
        (("drop", "--yes"), "which letters?"),
        (("list", "--since", "yesterday"), "'yesterday' is no time"),
    ]:
        status, output = await dlq(*arguments)
        assert status != 0
        assert words in output
    async with _broker(servers):
        status, output = await dlq("show", "nothing")
        assert (status, "no letter has this id" in output) == (1, True)
        assert (await dlq("list"))[1] == "No dead letters.\n"
    monkeypatch.setenv("AMQP_URL", "amqp://nobody:secret@127.0.0.1:1/")
    status, output = await dlq("list")
    assert "RabbitMQ cannot be reached" in output
    assert "secret" not in output


async def test_nothing_is_dropped_without_an_answer(servers: Servers, dlq: Run) -> None:
    async with _broker(servers) as channel:
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        await _publish(exchange, {"n": 1})
        assert (await dlq("drop", "--all", answer="n\n"))[0] == 1
        await _refused(servers, 1)
        assert (await dlq("drop", "--reason", str(Reason.REFUSED), "--yes"))[0] == 0
        await _refused(servers, 1)
        assert (await dlq("drop", "--all", answer="y\n"))[0] == 0
        await _refused(servers, 0)


class _broker:  # noqa: N801 - reads as the function that it is
    """A channel on which the topology is declared."""

    def __init__(self, servers: Servers) -> None:
        self._url = servers.amqp

    async def __aenter__(self) -> Any:
        tolerate_any_property()
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        await Topology.of(load_subscriptions(tuple(NOTES.split(",")))).declare(channel)
        return channel

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def _publish(exchange: Any, body: Any, **properties: Any) -> None:
    message = aio_pika.Message(
        json.dumps(body).encode(), content_type=STRUCTURED, delivery_mode=2, **properties
    )
    await exchange.publish(message, "some.key")


async def _get(queue: Any) -> Any:
    message: Any = None
    for _ in range(500):
        if (message := await queue.get(fail=False)) is not None:
            break
        await asyncio.sleep(0.01)
    return message


async def _tap(servers: Servers, exchange: str) -> str:
    """A queue that gets a copy of all that is published from now on."""
    connection = await aio_pika.connect(servers.amqp)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("tap", durable=True)
        await queue.bind(exchange, "#")
    return "tap"


async def _count(database: asyncpg.Pool) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM event_history")
    return count


async def _at_least(database: asyncpg.Pool, count: int) -> bool:
    return await _count(database) >= count
