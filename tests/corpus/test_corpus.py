"""The whole corpus through RabbitMQ, worker and updater in one go, each case beside a good neighbour."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import aio_pika
import asyncpg
import pytest
import structlog
from pamqp import encode
from pamqp.commands import Basic

from schemas.contract import Store
from streams.amqp import tolerate_any_property
from streams.app import Service
from streams.decode import BATCH, STRUCTURED
from streams.dlq.browse import Browser, connected
from streams.dlq.letter import Letter
from streams.dlq.select import Selection
from streams.quarantine import BROKERS, OURS
from tests.conftest import Servers
from tests.corpus.case import CANARY, MAX_BYTES, MAX_EVENTS, Case, event
from tests.corpus.case import encode as as_json
from tests.corpus.table import cases
from tests.corpus.test_decode_corpus import matches
from tests.support import depth, eventually, running, settings_for

QUEUES = (
    "tasks.record_tasks", "votes.record_votes", "agents.record_agents", "invalidations.apply_invalidations",
)  # fmt: skip
NEIGHBOURS = {"tasks": "task.created", "votes": "vote.cast", "agents": "agent.registered"}


@pytest.mark.parametrize("tap", [True, False], ids=["tap", "aio-pika"])
async def test_each_message_has_its_listed_outcome_and_no_neighbour_is_lost(
    servers: Servers, database: asyncpg.Pool, tap: bool
) -> None:
    corpus = cases() if tap else [case for case in cases() if _is_about_the_message(case)]
    neighbours = [f"neighbour {number}" for number in range(len(corpus))]
    refusals = sum(outcome is not None for case in corpus for outcome in case.outcomes)
    stored = len(neighbours) + sum(
        outcome is None for case in corpus if case.is_kept for outcome in case.outcomes
    )
    settings = settings_for(servers, tap=tap, max_message_bytes=MAX_BYTES, max_events_per_message=MAX_EVENTS)
    with structlog.testing.capture_logs() as lines:
        async with running(settings) as services:
            lost = _watch_connections(services)
            await _publish(servers.amqp, corpus, neighbours)
            await eventually(lambda: _settled(servers, database, stored, refusals), "all are settled", 60)
            assert all(service.health.ready for service in services)
            for service in services:
                await eventually(lambda: service.unacknowledged == 0, "all are acknowledged")  # noqa: B023
            assert not lost, "no connection was lost"
    assert [await depth(servers.amqp, queue) for queue in QUEUES] == [0, 0, 0, 0]

    rows = await database.fetch("SELECT event_id, data FROM event_history")
    # jsonb writes a double of 1e308 as an integer of 309 digits.
    history = {row["event_id"]: json.loads(row["data"], parse_int=_number) for row in rows}
    assert len(history) == len(rows) == stored
    assert set(neighbours) <= set(history)
    letters = await _letters(servers.amqp)
    wrong = [line for case in corpus for line in _differences(case, history, letters)]
    assert wrong == [], "\n".join(wrong)
    assert CANARY not in repr(lines)


def _is_about_the_message(case: Case) -> bool:
    """Whether it is about properties, headers or the content type, which each path reads in its own way."""
    return bool(case.properties) or case.content_type not in (STRUCTURED, BATCH)


def _differences(
    case: Case, history: dict[str, Any], letters: dict[tuple[str, int], Letter]
) -> Sequence[str]:
    """What is not as it is listed."""
    wrong: list[str] = []
    for index, (outcome, event_id) in enumerate(zip(case.outcomes, case.ids, strict=True)):
        letter = letters.get((case.name, index))
        if outcome is None:
            if letter is not None or (event_id in history) != case.is_kept:
                wrong.append(f"{case.name} [{index}] is not stored: {letter}")
            elif (
                case.is_kept and not case.elements and _payload(case.body) != history[event_id].get("payload")
            ):
                wrong.append(f"{case.name}: the payload is stored otherwise")
        elif letter is None:
            wrong.append(f"{case.name} [{index}] is not refused")
        else:
            wrong += _letter_differences(case, index, letter)
            if not matches(outcome, letter.reason, letter.field):
                wrong.append(f"{case.name} [{index}]: {letter.reason} {letter.field!r}: {letter.error}")
    return wrong


def _letter_differences(case: Case, index: int, letter: Letter) -> list[str]:
    kept = {
        "payload": letter.body == (case.elements[index] if case.elements else case.body),
        "content type": letter.properties.get("content_type") == (_text(case.content_type) or None),
        "message id": letter.properties.get("message_id") == _text(case.properties.get("message_id")),
        "bounds": len(letter.error) <= 500 and len(letter.field) <= 200,
        "no payload": CANARY not in letter.error + letter.field,
        "headers": _headers_are_kept(case, letter.properties),
        "route": (letter.exchange, letter.routing_key) == (case.exchange, "corpus"),
    }
    return [f"{case.name} [{index}]: {what} is not as received" for what, same in kept.items() if not same]


_NOT_ITS_OWN = OURS | BROKERS | {"BCC"}  # which the broker takes away


def _headers_are_kept(case: Case, properties: Mapping[str, Any]) -> bool:
    """Each is there as it was sent, or is named as lost; but for those of replays and of the broker."""
    sent, kept = case.properties.get("headers", {}), properties.get("headers", {})
    lost = properties.get("headers_lost", [])
    if isinstance(sent, bytes):
        return True  # written by hand, as no library would read it
    return all(
        name not in kept
        if name in OURS | BROKERS | {"BCC"}
        else kept[name] == value
        if name in kept
        else name in lost
        for name, value in sent.items()
    )


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 21 else float(digits)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _payload(body: bytes) -> Any:
    """The payload of a task in structured mode; of a name that stands twice the last one counts."""
    whole = json.loads(body)
    data = whole["data"] if "specversion" in whole else whole
    return data.get("payload")


async def _publish(url: str, corpus: Sequence[Case], neighbours: Sequence[str]) -> None:
    """By hand and beneath the library, which would refuse to write much of it."""
    tolerate_any_property()
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await (await connection.channel()).get_underlay_channel()
        with pytest.MonkeyPatch.context() as patch:
            for kind, original in encode.METHODS.items():
                patch.setitem(encode.METHODS, kind, partial(_raw, kind, original))
            for case, neighbour in zip(corpus, neighbours, strict=True):
                properties = {"message_id": _NONE, **case.properties}
                properties["message_id"] = properties["message_id"] or _NONE
                if "type" in properties:
                    properties["message_type"] = properties.pop("type")
                bad = Basic.Properties(
                    content_type=case.content_type, delivery_mode=2, correlation_id=case.name, **properties
                )
                beside = case.exchange if case.exchange in NEIGHBOURS else "tasks"
                good = Basic.Properties(content_type=STRUCTURED, delivery_mode=2)
                send = partial(channel.basic_publish, routing_key="corpus")
                await asyncio.gather(
                    send(case.body, exchange=case.exchange, properties=bad),
                    send(as_json(event(neighbour, NEIGHBOURS[beside])), exchange=beside, properties=good),
                )


class _Nothing(str):
    """A message id that is not written; the library would write one of its own for None."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


_NONE = _Nothing()


def _raw(kind: str, original: Callable[[Any], bytes], value: Any) -> bytes:
    """A property as it stands in the corpus: what is no value of its kind is bytes of the wire."""
    if kind == "timestamp" and isinstance(value, int):
        return value.to_bytes(8, "big")
    if kind == "shortstr" and isinstance(value, bytes):
        return bytes([len(value)]) + value
    return value if kind == "table" and isinstance(value, bytes) else original(value)


async def _settled(servers: Servers, database: asyncpg.Pool, stored: int, refused: int) -> bool:
    rows = await database.fetchval("SELECT count(*) FROM event_history")
    return bool(rows >= stored and await depth(servers.amqp, "quarantine") >= refused)


def _watch_connections(services: Sequence[Service]) -> list[object]:
    """Connections that had to be made anew from now on. Redeliveries do not tell: when a consumer is
    replaced, to have another prefetch, what was on its way to the old one may be delivered once more."""
    lost: list[object] = []
    for service in services:
        connection: Any = service._broker._connection
        connection.reconnect_callbacks.add(lambda *_: lost.append(_))
    return lost


async def _letters(url: str) -> dict[tuple[str, int], Letter]:
    """By the name of the case and the position in its array. None lies there twice."""
    found: dict[tuple[str, int], Letter] = {}
    async with connected(url) as connection, Browser(connection, Selection(), bodies=True) as browser:
        async for held in browser.letters():
            properties = held.letter.properties
            key = str(properties["correlation_id"]), int(properties.get("index", 0))
            assert key not in found
            found[key] = held.letter
    return found


async def test_a_user_id_that_is_not_ones_own_is_refused_by_the_broker(
    servers: Servers, database: asyncpg.Pool
) -> None:
    async with running(settings_for(servers), Store.POSTGRES) as (worker,):
        connection = await aio_pika.connect(servers.amqp)
        async with connection:
            channel = await (await connection.channel()).get_underlay_channel()
            spoofed = Basic.Properties(content_type=STRUCTURED, user_id="somebody-else")
            with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
                await channel.basic_publish(
                    as_json(event("spoofed")), exchange="tasks", routing_key="x", properties=spoofed
                )
        assert worker.health.ready
    assert await database.fetchval("SELECT count(*) FROM event_history") == 0
