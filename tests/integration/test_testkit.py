"""The kit runs handlers as the engine does, and finds what is wrong with handlers that are wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, Literal
from uuid import UUID

import pytest

from handlers.agents import stream as agents
from handlers.invalidations import stream as invalidations
from handlers.tasks import stream as tasks
from schemas.agents import AgentStatus
from schemas.cache import round_key
from schemas.errors import ConfigurationError, InvalidEvent, Refused
from schemas.votes import DecidedData, RoundDecided
from streams import Batch, Changes, Data, Event, Stream
from streams.testkit import Crash, Diverged, Kit, assert_converges, assert_lock_order
from streams.testkit.fixtures import KitFactory
from tests.making import START, make, new_id
from tests.property.strategies import TASKS, USERS


class CountData(Data):
    counter_id: UUID
    by: int = 1


class Counted(Event):
    exchange: ClassVar[str] = "counters"
    entity: ClassVar[str] = "counter_id"
    type: Literal["counted"] = "counted"
    data: CountData


def counted(counter: int, number: int, by: int = 1) -> Counted:
    data = CountData(counter_id=UUID(int=counter), by=by)
    return Counted(
        id=f"{counter}-{number}",
        source="tests",
        time=make("agent.registered", number, agent_id=UUID(int=1), name="a").time,
        data=data,
    )


ADD = """
INSERT INTO counters AS c (id, total)
SELECT id, total FROM unnest($1::uuid[], $2::integer[]) AS n (id, total) {order}
ON CONFLICT (id) DO UPDATE SET total = c.total + excluded.total
"""
REPLACE = ADD.replace("c.total + excluded.total", "excluded.total")


def counters(query: str, events: Callable[[Batch[Counted]], Any] = lambda batch: batch.events) -> Stream:
    """A handler that writes totals by this statement."""
    stream = Stream("counters")

    @stream.handler(exchange="counters", events=Counted)
    async def count(batch: Batch[Counted], tx: Any) -> Changes:
        totals: dict[UUID, int] = {}
        for event in events(batch):
            if event.data.by == 0:
                raise Refused("counts nothing", field="data.by")
            totals[event.data.counter_id] = totals.get(event.data.counter_id, 0) + event.data.by
        await tx.execute(query, list(totals), list(totals.values()))
        return Changes(keys={f"q:counter:{key}" for key in totals})

    return stream


@pytest.fixture
async def kit_of(streams_kit: KitFactory) -> AsyncIterator[Callable[[Stream], Awaitable[Kit]]]:
    opened = []

    async def make_kit(stream: Stream) -> Kit:
        manager = streams_kit(stream)
        kit = await manager.__aenter__()
        opened.append(manager)
        await kit.connection.execute("CREATE TABLE counters (id uuid PRIMARY KEY, total integer NOT NULL)")
        return kit

    yield make_kit
    for manager in opened:
        await manager.__aexit__(None, None, None)


IN_ORDER = ADD.format(order="ORDER BY n.id")
EVENTS = [counted(counter, number, number + 1) for counter in (1, 2) for number in range(4)]


async def test_a_handler_that_counts_repeats_is_found_out(kit_of: Any) -> None:
    kit = await kit_of(counters(IN_ORDER))
    with pytest.raises(Diverged, match=r"ends in another state[\s\S]*counters: - "):
        await assert_converges(kit, EVENTS, ["counters"])
    assert await kit.state("counters") == {"counters": []}, "plays leave no trace"


async def test_so_is_one_that_relies_on_the_window_of_de_duplication(kit_of: Any) -> None:
    kit = await kit_of(counters(IN_ORDER, lambda batch: batch.fresh))
    with pytest.raises(Diverged, match="the de-duplication window has passed"):
        await assert_converges(kit, EVENTS, ["counters"], plays=50)


async def test_and_one_where_the_last_to_arrive_wins(kit_of: Any) -> None:
    kit = await kit_of(counters(REPLACE.format(order="ORDER BY n.id")))
    with pytest.raises(Diverged):
        await assert_converges(kit, EVENTS, ["counters"])


async def test_rows_locked_out_of_order_are_named(kit_of: Any) -> None:
    kit = await kit_of(counters(ADD.format(order="")))
    with pytest.raises(
        AssertionError, match=f"counters {UUID(int=2)} is locked before counters {UUID(int=1)}"
    ):
        await assert_lock_order(kit, [counted(n, 1) for n in (1, 2, 3)], {"counters": "id"})


async def test_rows_locked_in_order_are_not(kit_of: Any) -> None:
    kit = await kit_of(counters(IN_ORDER))
    sorted_kit = [counted(n, 1) for n in (3, 1, 2)]
    await assert_lock_order(kit, sorted_kit, {"counters": "id"}, stored=[counted(9, 1)])


async def test_tables_are_locked_in_the_order_that_is_named(streams_kit: KitFactory) -> None:
    ended = [make("task.completed", 1, task_id=t, result={}) for t in TASKS[:2]]
    begun = [make("task.started", 0, task_id=t, agent_id=UUID(int=n)) for n, t in enumerate(TASKS[:2], 1)]
    order = {"tasks": "id", "agent_registry": "agent_id"}
    async with streams_kit(tasks) as kit:
        await assert_lock_order(kit, ended, order, stored=begun)


async def test_our_own_families_converge(streams_kit: KitFactory) -> None:
    task, agent = TASKS[0], UUID(int=7)
    events = [
        make("task.created", 0, task_id=task, kind="k", user_id=USERS[0], payload={"a": 1}),
        make("task.started", 1, task_id=task, agent_id=agent),
        make("task.failed", 2, task_id=task, error={"code": "c", "message": ""}),
        make("task.started", 3, task_id=task),
        make("task.completed", 4, task_id=task, result={"b": 2}),
        make("agent.registered", 0, agent_id=agent, name="Ann"),
        make("agent.status_changed", 1, agent_id=agent, status=AgentStatus.PAUSED),
    ]
    async with streams_kit(tasks, agents) as kit:
        state = await assert_converges(kit, events, ["tasks", "agents", "agent_scores"], plays=15)
    assert [row["status"] for row in state["tasks"]] == ["completed"]
    assert [row["points"] for row in state["agent_scores"] if row["points"]] == [10]


async def test_each_crash_leaves_what_a_dead_worker_leaves(kit_of: Any) -> None:
    kit = await kit_of(counters(IN_ORDER))
    left = {}
    for number, crash in enumerate(Crash):
        async with kit.undone():
            run = await kit.run([counted(number, 1)], crash=crash)
            counts = "SELECT (SELECT count(*) FROM counters), (SELECT count(*) FROM outbox)"
            left[crash] = (
                *await kit.connection.fetchrow(counts),
                len(run.published),
                len(kit.unacknowledged),
            )
            await kit.recover()
            assert kit.unacknowledged == []
            assert await kit.connection.fetchval("SELECT count(*) FROM outbox") == 0
            assert await kit.connection.fetchval("SELECT count(*) FROM event_history") == 1
            told = {key for m in kit.published for key in json.loads(m.body)["data"]["keys"]}
            assert told == {f"q:counter:{UUID(int=number)}"}
    assert left == {
        Crash.BEFORE_COMMIT: (0, 0, 0, 1),
        Crash.BEFORE_PUBLISH: (1, 1, 0, 1),
        Crash.BEFORE_ACK: (1, 1, 1, 1),
    }
    assert kit.published == []


async def test_what_producers_could_not_send_cannot_be_tested_with(kit_of: Any) -> None:
    kit = await kit_of(counters(IN_ORDER))
    with pytest.raises(InvalidEvent, match=r"data\.counter_id"):
        await kit.run([json.loads(counted(1, 1).model_dump_json()) | {"data": {"counter_id": "x"}}])
    with pytest.raises(Refused, match="counts nothing"):
        await kit.run([counted(1, 1), counted(2, 1, by=0)])
    assert await kit.state("counters") == {"counters": []}
    with pytest.raises(ConfigurationError, match="no handler takes counted, task"):
        await Kit(kit.connection, *[counters(IN_ORDER), tasks]).run(
            [counted(1, 1), make("task.created", 0, task_id=new_id(), kind="k")]
        )


async def test_an_updater_is_given_a_cache_that_writes_down(streams_kit: KitFactory) -> None:
    round_id = new_id()
    data = DecidedData(round_id=round_id, choice="a", tally={}, votes=1, decided_at=START)
    async with streams_kit(invalidations) as kit:
        run = await kit.run([RoundDecided(id="1", source="tests", time=START, data=data)])
    assert kit.cache.keys == run.keys == {round_key(round_id)}
    assert run.announced == []
