"""The tool itself: the broker's own letters, looking, limits, what reaches a terminal, mistakes."""

from __future__ import annotations

import asyncio
import json
import time

import asyncpg
import pytest

from schemas.contract import Store
from schemas.errors import Reason
from streams.dlq import browse
from streams.topology import DELIVERY_LIMIT
from tests.conftest import Servers
from tests.e2e.letters import (
    Run,
    are_refused,
    count_of,
    declared,
    dlq,
    forget_troubles,
    get,
    is_,
    send,
    stored_events,
)
from tests.e2e.test_engine import NOTES, note
from tests.support import depth, eventually, publish, running, settings_for, take_all

__all__ = ["dlq", "forget_troubles"]


async def test_letters_that_the_broker_wrote_have_reasons_and_go_back(
    servers: Servers, database: asyncpg.Pool, dlq: Run
) -> None:
    forged = {"x-reason": "refused", "x-exchange": "evil", "x-original": {}, "x-replays": 2**40}
    limited, stray, expired, foreign = note(), note(), note(), note()
    async with declared(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        queue = await channel.get_queue("troubled.record_notes", ensure=False)
        await send(exchange, limited, headers=forged)
        for _ in range(DELIVERY_LIMIT + 1):
            await (await get(queue)).reject(requeue=True)
        await are_refused(servers, 1)
        await send(exchange, expired, expiration=0.001, headers={"x-death": [{"queue": "evil"}]})
        await are_refused(servers, 2)
        await queue.unbind("notes", "#")
        await send(exchange, stray, headers=forged)
        await send(await channel.get_exchange("dead-letters", ensure=False), foreign)
        await are_refused(servers, 4)
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
        await eventually(lambda: is_(count_of(database), 3), "the three are stored")
    assert set(await stored_events(database)) == {limited["id"], stray["id"], expired["id"]}
    assert await depth(servers.amqp, "quarantine") == 1


async def test_a_forged_history_of_deaths_sends_nothing_elsewhere(servers: Servers, dlq: Run) -> None:
    forged = [{"queue": "troubled.record_notes", "reason": "expired", "exchange": "agents", "count": 1,
               "routing-keys": ["agent.registered"]}]  # fmt: skip
    async with declared(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        first = {f"x-first-death-{name}": value for name, value in forged[0].items() if name != "count"}
        await send(exchange, note(), expiration=0.001, headers={"x-death": forged, **first})
        await are_refused(servers, 1)
    assert json.loads((await dlq("list", "--json"))[1])["letters"][0]["exchange"] == ""
    assert (await dlq("replay", "--all"))[0] == 0
    assert await depth(servers.amqp, "troubled.record_notes") == 1


async def test_looking_changes_nothing(
    servers: Servers, database: asyncpg.Pool, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_LARGEST_WINDOW", 150)
    async with declared(servers) as channel:
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        for start in range(0, 1000, 500):
            await asyncio.gather(
                *(
                    send(exchange, {"n": n}, type=f"t{n % 3}", message_id=str(n))
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
    async with declared(servers) as channel:
        exchange = await channel.get_exchange("notes", ensure=False)
        queue = await channel.get_queue("troubled.record_notes", ensure=False)
        await queue.unbind("notes", "#")
        await asyncio.gather(*(send(exchange, note()) for _ in range(30)))
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
        await are_refused(servers, 2)
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
    async with declared(servers):
        status, output = await dlq("show", "nothing")
        assert (status, "no letter has this id" in output) == (1, True)
        assert (await dlq("list"))[1] == "No dead letters.\n"
    monkeypatch.setenv("AMQP_URL", "amqp://nobody:secret@127.0.0.1:1/")
    status, output = await dlq("list")
    assert "RabbitMQ cannot be reached" in output
    assert "secret" not in output


async def test_nothing_is_dropped_without_an_answer(servers: Servers, dlq: Run) -> None:
    async with declared(servers) as channel:
        exchange = await channel.get_exchange("dead-letters", ensure=False)
        await send(exchange, {"n": 1})
        assert (await dlq("drop", "--all", answer="n\n"))[0] == 1
        await are_refused(servers, 1)
        assert (await dlq("drop", "--reason", str(Reason.REFUSED), "--yes"))[0] == 0
        await are_refused(servers, 1)
        assert (await dlq("drop", "--all", answer="y\n"))[0] == 0
        await are_refused(servers, 0)
