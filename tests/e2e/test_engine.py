"""The engine's promises on real servers, with families that live outside the product."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from math import ceil, log2
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from schemas.contract import Store
from schemas.errors import ConfigurationError
from schemas.ids import uuid7
from streams.app import Service
from streams.decode import BATCH, BINARY
from streams.migrations import migrate
from tests.conftest import Servers
from tests.e2e import troubled
from tests.support import EXAMPLES, depth, event, eventually, publish, running, settings_for, take_all

NOTES = "tests.e2e.troubled,handlers.invalidations"
EITHER_WAY = pytest.mark.parametrize("tap", [True, False], ids=["tap", "aio-pika"])


def note(trouble: str | None = None, **attributes: Any) -> dict[str, Any]:
    return event("note.taken", {"note_id": str(uuid4()), "trouble": trouble}, **attributes)


async def stored(database: asyncpg.Pool) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM event_history")
    return count


async def test_a_family_outside_the_repository_needs_three_files(
    servers: Servers, database: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    settings = settings_for(
        servers,
        handlers="billing.handlers,handlers.invalidations",
        migrations=str(EXAMPLES / "billing" / "sql"),
    )
    await migrate(servers.database, settings.migration_sources)
    invoice, customer = str(uuid4()), str(uuid4())
    data = {"invoice_id": invoice, "customer_id": customer}
    async with running(settings):
        later = event("invoice.issued", data | {"amount": "20.50"}, seconds=-1)
        earlier = event("invoice.issued", data | {"amount": "10.00"}, seconds=-2)
        await publish(servers.amqp, "invoices", [later, earlier, later])
        await eventually(lambda: _is(stored(database), 2), "history holds each event once")
        row = await database.fetchrow("SELECT customer_id::text, amount FROM invoices WHERE id = $1", invoice)
    assert row is not None
    assert tuple(row) == (customer, Decimal("20.50"))


@EITHER_WAY
async def test_all_three_cloudevents_modes_arrive(
    servers: Servers, database: asyncpg.Pool, tap: bool
) -> None:
    async with running(settings_for(servers, handlers=NOTES, tap=tap)):
        await publish(servers.amqp, "notes", [note()])
        await publish(servers.amqp, "notes", [[note() for _ in range(700)]], content_type=BATCH)
        await publish(
            servers.amqp,
            "notes",
            [{"note_id": str(uuid4())}],
            content_type=BINARY,
            message_id="1",
            type="note.taken",
            app_id="pika",
            headers={"cloudEvents:time": note()["time"]},
        )
        await eventually(lambda: _is(stored(database), 702), "all events are stored")
    assert await depth(servers.amqp, "troubled.record_notes") == 0
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize(
    ("trouble", "reason"), [("sql", "database_refused"), ("refuse", "refused"), ("bug", "handler_failed")]
)
async def test_a_poison_event_costs_only_itself(
    servers: Servers, database: asyncpg.Pool, trouble: str, reason: str
) -> None:
    events = [note() for _ in range(300)]
    events[137]["data"]["trouble"] = trouble
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES):
        await publish(servers.amqp, "notes", [events], content_type=BATCH)
        await eventually(lambda: _is(stored(database), 299), "the neighbours are stored")
        await eventually(lambda: _is(depth(servers.amqp, "quarantine"), 1), "the culprit is quarantined")
    assert len(troubled.attempts) <= 2 * ceil(log2(300)) + 1
    (letter,) = await take_all(servers.amqp, "quarantine")
    assert letter.headers["x-reason"] == reason
    assert orjson.loads(letter.body)["id"] == events[137]["id"]
    assert letter.headers["x-exchange"] == "notes"
    assert "NUL" not in str(letter.headers)


@EITHER_WAY
async def test_bad_messages_are_quarantined_as_received(
    servers: Servers, database: asyncpg.Pool, tap: bool
) -> None:
    async with running(settings_for(servers, handlers=NOTES, tap=tap), Store.POSTGRES):
        bodies = [b"\xff\xfe", note(type="note.burnt"), note(time="1990-01-01T00:00:00Z"), note()]
        await publish(servers.amqp, "notes", bodies, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        await eventually(lambda: _is(depth(servers.amqp, "quarantine"), 3), "three are quarantined")
        await eventually(lambda: _is(stored(database), 1), "the good one is stored")
    letters = {
        str(letter.headers["x-reason"]): letter for letter in await take_all(servers.amqp, "quarantine")
    }
    assert set(letters) == {"undecodable", "unknown_type", "outside_window"}
    assert letters["undecodable"].body == b"\xff\xfe"
    assert letters["unknown_type"].headers["x-trace-id"] == "a" * 32
    assert letters["outside_window"].headers["x-field"] == "time"


async def test_a_handler_that_fails_on_everything_pauses_the_stream(
    servers: Servers, database: asyncpg.Pool
) -> None:
    troubled.broken = True
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES) as (worker,):
        await publish(servers.amqp, "notes", [[note() for _ in range(200)]], content_type=BATCH)
        await eventually(lambda: not worker.health.ready, "the worker reports not ready")
        refused = await depth(servers.amqp, "quarantine")
        assert refused == 0, "nothing shows yet that it is the events"
        troubled.broken = False
        await eventually(lambda: worker.health.ready, "the stream resumes by itself")
        await eventually(lambda: _is(stored(database), 200 - refused), "the rest is stored")


@EITHER_WAY
async def test_a_redelivered_event_has_no_second_effect(
    servers: Servers, database: asyncpg.Pool, tap: bool
) -> None:
    events = [note() for _ in range(50)]
    async with running(settings_for(servers, handlers=NOTES, tap=tap), Store.POSTGRES):
        await publish(servers.amqp, "notes", events + events)
        await publish(servers.amqp, "notes", [events], content_type=BATCH)
        await eventually(lambda: _is(depth(servers.amqp, "troubled.record_notes"), 0), "the queue is empty")
        await eventually(lambda: _is(stored(database), 50), "each is stored")
    assert await stored(database) == 50


async def test_an_invalidation_is_broadcast_once_redis_has_applied_it(
    servers: Servers, database: asyncpg.Pool
) -> None:
    import aio_pika

    async with running(settings_for(servers, handlers=NOTES)):
        connection = await aio_pika.connect(servers.amqp)
        async with connection:
            channel = await connection.channel()
            bus = await channel.declare_queue(exclusive=True)
            await bus.bind("cache-bus", "#")
            taken = note()
            await publish(servers.amqp, "notes", [taken])
            message = await asyncio.wait_for(_next(bus), 10)
    applied = orjson.loads(message.body)["data"]
    assert applied["keys"] == [f"q:note:{taken['data']['note_id']}"]
    batch_id = await database.fetchval("SELECT batch_id FROM event_history")
    assert applied["causes"] == [f"{batch_id}:0"]


async def test_the_budget_of_bytes_holds_no_more_than_it_says(
    servers: Servers, database: asyncpg.Pool
) -> None:
    large = [note(trouble="x" * 100_000) for _ in range(60)]
    settings = settings_for(servers, handlers=NOTES, max_decoded_bytes=1024 * 1024)
    async with running(settings, Store.POSTGRES) as (worker,):
        await publish(servers.amqp, "notes", large)
        peak = 0
        while await stored(database) < 60:
            peak = max(peak, worker.intakes["troubled.record_notes"].decoded_bytes)
    assert 0 < peak <= 1024 * 1024


async def test_settings_that_cannot_work_are_refused_at_start(servers: Servers) -> None:
    with pytest.raises(ConfigurationError, match="STREAMS_PREFETCH=100 is below"):
        Service(settings_for(servers, handlers=NOTES, prefetch=100), Store.POSTGRES)
    with pytest.raises(ConfigurationError, match="STREAMS_HANDLERS names 'nowhere'"):
        Service(settings_for(servers, handlers="nowhere"), Store.POSTGRES)
    with pytest.raises(ConfigurationError, match=r"handlers\.invalidations"):
        Service(settings_for(servers, handlers="tests.e2e.troubled"), Store.POSTGRES)


async def _is(value: Any, expected: int) -> bool:
    return bool(await value == expected)


async def _next(queue: Any) -> Any:
    async with queue.iterator() as messages:
        return await anext(messages)


async def test_a_retention_that_storage_does_not_keep_is_refused(servers: Servers) -> None:
    service = Service(settings_for(servers, handlers=NOTES, retention_days=3000), Store.POSTGRES)
    with pytest.raises(ConfigurationError, match="STREAMS_RETENTION_DAYS=3000 reaches before"):
        await service.run(asyncio.Event())


@EITHER_WAY
@pytest.mark.parametrize("poison", ["timestamp", "type", "header"])
async def test_a_property_that_no_library_can_read_costs_only_its_message(
    servers: Servers, database: asyncpg.Pool, poison: str, tap: bool
) -> None:
    async with running(settings_for(servers, handlers=NOTES, tap=tap), Store.POSTGRES) as (worker,):
        await _publish_raw(servers.amqp, poison)
        await publish(servers.amqp, "notes", [note() for _ in range(20)])
        await eventually(lambda: _is(stored(database), 20), "the neighbours are stored")
        await eventually(lambda: _is(depth(servers.amqp, "quarantine"), 1), "the poison is quarantined")
        assert worker.health.ready
    (letter,) = await take_all(servers.amqp, "quarantine")
    assert letter.headers["x-reason"] == "invalid_event"


async def _publish_raw(url: str, poison: str) -> None:
    """Publish what well-behaved clients refuse to write: encoded by hand, sent beneath the library."""
    import aio_pika
    from pamqp import encode

    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("notes", ensure=False)
        properties: dict[str, Any] = {"message_id": "1", "app_id": "pika", "type": "note.taken"}
        patched = pytest.MonkeyPatch()
        with patched.context() as patch:
            if poison == "timestamp":
                properties["timestamp"] = 1
                patch.setitem(encode.METHODS, "timestamp", lambda _: (1795462400 * 10**9).to_bytes(8, "big"))
            elif poison == "type":
                patch.setitem(encode.METHODS, "shortstr", _short_string)
                properties["type"] = "POISON"
            else:
                properties["headers"] = {"x": 1}
                patch.setitem(encode.METHODS, "table", lambda _: b"\0\0\0\x07\x01\xffI\0\0\0\1")
            await exchange.publish(
                aio_pika.Message(b"{}", content_type=BINARY, delivery_mode=2, **properties), "x"
            )


def _short_string(value: str) -> bytes:
    raw = b"\xff\xfe" if value == "POISON" else value.encode()
    return bytes([len(raw)]) + raw


async def test_events_that_we_published_ourselves_are_acknowledged_on_a_quiet_stream(
    servers: Servers,
) -> None:
    async with running(settings_for(servers), Store.POSTGRES) as (worker,):
        decided = event(
            "round.decided",
            {
                "round_id": str(uuid7()),
                "choice": "a",
                "tally": {"a": 1},
                "votes": 1,
                "decided_at": note()["time"],
            },
        )
        await publish(servers.amqp, "votes", [decided])
        await eventually(lambda: worker.intakes["votes.record_votes"].received == 1, "it arrives")
        await eventually(lambda: worker.unacknowledged == 0, "it is acknowledged")
    assert await depth(servers.amqp, "quarantine") == 0


async def test_a_lone_event_that_a_handler_fails_on_waits_for_proof_before_it_is_refused(
    servers: Servers, database: asyncpg.Pool
) -> None:
    async with running(settings_for(servers, handlers=NOTES), Store.POSTGRES) as (worker,):
        await publish(servers.amqp, "notes", [note("bug")])
        await eventually(
            lambda: not worker.health.ready, "the stream pauses: is it the event, or the handler?"
        )
        assert await depth(servers.amqp, "quarantine") == 0
        await publish(servers.amqp, "notes", [note()])
        await eventually(lambda: _is(depth(servers.amqp, "quarantine"), 1), "another one went through")
        await eventually(lambda: worker.health.ready, "ready again")
    assert await stored(database) == 1
