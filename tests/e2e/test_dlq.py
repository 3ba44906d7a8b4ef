"""Dead letters as an operator meets them: real workers refuse events, `streams dlq` deals with them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from schemas.contract import Store
from streams.decode import BATCH, BINARY, STRUCTURED
from streams.dlq import browse
from tests.conftest import Servers
from tests.e2e import troubled
from tests.e2e.letters import (
    Run,
    are_refused,
    at_least,
    count_of,
    declared,
    dlq,
    forget_troubles,
    is_,
    stored_events,
    tap_on,
)
from tests.e2e.test_engine import NOTES, note
from tests.receivers import Receiver
from tests.support import depth, eventually, publish, running, settings_for, take_all

__all__ = ["dlq", "forget_troubles"]


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
        await are_refused(servers, 2)

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

        replayed = await tap_on(servers, "notes")
        troubled.fixed = True
        assert (await dlq("replay", "--reason", "refused", "--dry-run"))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 2
        status, output = await dlq("replay", "--reason", "refused", "--json")
        assert (status, json.loads(output)["total"]) == (0, 2)
        await eventually(lambda: is_(count_of(database), 4), "the repaired events are stored")
        assert (await dlq("list"))[1] == "No dead letters.\n"
    assert set((await stored_events(database)).values()) == {1}

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
            await are_refused(servers, 1)
            troubled.fixed = replays == 1
            assert (await dlq("replay", "--all"))[0] == 0
        await eventually(lambda: is_(count_of(database), 1), "it is stored")
    first, *replayed = [span for span in over_grpc.spans if span.name == name]
    assert len(replayed) == 2
    for span in replayed:
        assert span.trace_id != first.trace_id, "a letter may be replayed after days"
        assert (first.trace_id, first.span_id) in {(link.trace_id, link.span_id) for link in span.links}


async def test_a_message_without_an_id_has_the_same_one_each_time(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    """The library would invent another one for each replay, and each would be another event."""
    async with declared(servers) as channel:
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
        tap = await tap_on(servers, "notes")
        for _ in range(2):
            await exchange.publish(letter, "x")
            assert (await dlq("replay", "--all"))[0] == 0
    sent = await take_all(servers.amqp, tap)
    assert [message.message_id for message in sent] == [letter.message_id] * 2


async def test_letters_that_share_a_message_id_are_not_taken_for_each_other(
    servers: Servers, dlq: Run
) -> None:
    """The library tells returned messages by their ids: the one that no queue takes has to stay."""
    async with declared(servers) as channel:
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
        await are_refused(servers, 10)
        await channel.exchange_delete("loose")
        status, output = await dlq("replay", "--all")
        assert status == 1
        assert "there is no exchange 'loose' any more" in output
        await are_refused(servers, 10)


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
        await are_refused(servers, 20)
        before = json.loads((await dlq("list", "--json"))[1])["letters"]
        for round_ in (1, 2):
            status, output = await dlq("replay", "--all", "--json")
            assert (status, json.loads(output)["total"]) == (0, 20)
            await are_refused(servers, 20)
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
        await are_refused(servers, 3)
        await publish(servers.amqp, "notes", events)  # as the broker would deliver them again
        await are_refused(servers, 6)
        listed = json.loads((await dlq("list", "--json"))[1])
        assert listed["total"] == 3
        assert [letter["copies"] for letter in listed["letters"]] == [2, 2, 2]
        first, second = events[0]["id"], events[1]["id"]
        assert (await dlq("drop", "--id", first, "--yes"))[1].split()[-2:] == ["1", "dropped"]
        assert await depth(servers.amqp, "quarantine") == 4
        replayed = await tap_on(servers, "notes")
        troubled.fixed = True
        assert (await dlq("replay", "--id", second))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 2
        await eventually(lambda: is_(count_of(database), 1), "it is stored")
    assert len(await take_all(servers.amqp, replayed)) == 1
    assert await stored_events(database) == {second: 1}


async def test_a_replay_that_is_killed_at_any_moment_is_repeated_without_harm(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    events = [note("refuse") for _ in range(200)]
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [events], content_type=BATCH)
        await are_refused(servers, 200)
        troubled.fixed = True
        for enough in (1, 80):
            replayer = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "streams", "dlq", "replay", "--all", "--rate", "200",
                env=os.environ | servers.environment,
            )  # fmt: skip
            await eventually(lambda goal=enough: at_least(database, goal), "some are stored")  # type: ignore[misc]
            replayer.kill()
            await replayer.wait()
        left = await depth(servers.amqp, "quarantine")
        assert 0 < left < 200
        status, _ = await dlq("replay", "--all")
        assert status == 0
        await eventually(lambda: is_(count_of(database), 200), "all are stored")
        assert await depth(servers.amqp, "quarantine") == 0
    assert set((await stored_events(database)).values()) == {1}


async def test_a_confirm_that_is_not_followed_by_an_acknowledgement_is_harmless(
    servers: Servers, database: asyncpg.Pool, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = note("refuse")
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [event])
        await are_refused(servers, 1)
        troubled.fixed = True

        async def lost(_: object) -> None:
            raise ConnectionError("gone")

        with monkeypatch.context() as patch:
            patch.setattr(browse.Held, "take_out", lost)
            status, _ = await dlq("replay", "--all")
        assert status != 0
        await eventually(lambda: is_(count_of(database), 1), "it is stored")
        await are_refused(servers, 1)
        assert (await dlq("replay", "--all"))[0] == 0
        assert await depth(servers.amqp, "quarantine") == 0
        await eventually(lambda: is_(depth(servers.amqp, "troubled.record_notes"), 0), "it is consumed")
    assert await stored_events(database) == {event["id"]: 1}
