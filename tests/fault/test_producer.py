"""The producer through faults: what it accepts is confirmed or named in an error, and no repeat differs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from streams.producer import Batching, NotConfirmed, Producer, ProducerClosed, uuid7
from streams.stack import LocalStack, StackUrls
from streams.stack.server import find_binary
from tests.brokers import QUEUE, declare, landed
from tests.fault.proxy import Proxy
from tests.support import eventually


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[LocalStack, StackUrls]]:
    """Servers that this module may stop: nobody else uses them."""
    stack = LocalStack("fault", unique=True)
    with stack as urls:
        yield stack, urls


def task() -> dict[str, Any]:
    return {"task_id": uuid7(), "kind": "research"}


def is_saved(stack: LocalStack) -> bool:
    """A broker that is killed within half a second of a quorum queue's declaration comes back with a queue
    that exists and confirms nothing, for anybody (RabbitMQ 3.10)."""
    folder = stack.folder / "rabbitmq" / "mnesia" / "rabbit@localhost" / "quorum" / "rabbit@localhost"
    return QUEUE.encode() in (folder / "names.dets").read_bytes()


class Load:
    """Callers who send one event after the other until they are told to stop."""

    def __init__(self, producer: Producer, callers: int = 20) -> None:
        self.producer = producer
        self.confirmed: list[str] = []
        self.failed: list[NotConfirmed] = []
        self._stop = False
        self._tasks = [asyncio.create_task(self._send()) for _ in range(callers)]

    async def _send(self) -> None:
        while not self._stop:
            try:
                self.confirmed.append((await self.producer.send("task.created", task())).id)
                await asyncio.sleep(0.01)  # a load, not a flood: all of it is looked at in the end
            except ProducerClosed:
                return
            except NotConfirmed as error:
                self.failed.append(error)

    async def progress(self, count: int = 300) -> None:
        goal = len(self.confirmed) + count
        await eventually(lambda: len(self.confirmed) >= goal, f"{goal} events are confirmed", 60)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


async def check(url: str, load: Load) -> None:
    """Every confirmed event is there, under one id always the same event."""
    bodies: dict[str, set[str]] = {}
    for event in await landed(url):
        bodies.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
    assert set(load.confirmed) <= set(bodies), "nothing that was confirmed is lost"
    assert {len(versions) for versions in bodies.values()} == {1}, "never another event under the same id"


@pytest.mark.timeout(120)
async def test_a_broker_that_is_killed(own: tuple[LocalStack, StackUrls]) -> None:
    stack, urls = own
    await declare(urls.amqp, "tasks")
    async with (
        Producer(urls.amqp, source="patient", wait=60) as patient,
        Producer(urls.amqp, source="batches", wait=60, batching=Batching(size=20)) as batches,
        Producer(urls.amqp, source="hasty", wait=0.5) as hasty,
    ):
        loads = [Load(patient), Load(batches)]
        await asyncio.gather(*(load.progress() for load in loads))
        await eventually(lambda: is_saved(stack), "the queue's registration is on disk")
        await asyncio.to_thread(stack.kill, "rabbitmq")
        with pytest.raises(NotConfirmed) as caught:
            await asyncio.wait_for(hasty.send("task.created", task(), id="in-vain"), 5)
        assert caught.value.event_ids == ("in-vain",)
        assert "not connected to 127.0.0.1" in str(caught.value)
        starting = asyncio.create_task(asyncio.to_thread(stack.start_service, "rabbitmq"))
        await asyncio.gather(*(load.progress() for load in loads))
        await starting
        await eventually(lambda: hasty.statistics.state == "connected", "the hasty one is back, too")
        again = await hasty.send(caught.value.events[0])
        assert again.id == "in-vain"
        for load in loads:
            await load.stop()
            assert load.failed == []
            assert load.producer.statistics.reconnects >= 1
            loads[0].confirmed += load.confirmed if load is not loads[0] else []
    await check(urls.amqp, loads[0])


async def test_a_broker_that_blocks_publishers_makes_them_wait(own: tuple[LocalStack, StackUrls]) -> None:
    stack, urls = own
    await declare(urls.amqp, "tasks")
    async with Producer(urls.amqp, source="tests", wait=60) as producer:
        load = Load(producer, callers=5)
        await load.progress(50)
        await set_memory_limit(stack, "absolute", "1")
        await eventually(lambda: "the broker blocks publishers" in producer.statistics.state)
        await eventually(lambda: producer.statistics.in_flight == 5, "every caller waits")
        before = len(load.confirmed)
        await set_memory_limit(stack, "0.4")
        await eventually(lambda: len(load.confirmed) > before + 50, "publishing goes on")
        await load.stop()
        assert load.failed == []
    await check(urls.amqp, load)


async def set_memory_limit(stack: LocalStack, *limit: str) -> None:
    server = stack._servers["rabbitmq"]
    site = stack._started()
    variables = [f"{name}={value}" for name, value in server.variables().items()]
    ctl = find_binary("rabbitmqctl", "/usr/lib/rabbitmq/bin")
    command = ["env", *variables, ctl, "set_vm_memory_high_watermark", *limit]
    await asyncio.to_thread(site.run, "rabbitmq", command)


@pytest.mark.parametrize("batching", [None, Batching(size=20)], ids=["single", "batches"])
async def test_connections_that_are_reset_under_load(amqp_url: str, batching: Batching | None) -> None:
    await declare(amqp_url, "tasks")
    async with Proxy(amqp_url) as proxy, Producer(proxy.url, source="tests", batching=batching) as producer:
        load = Load(producer)
        for _ in range(3):
            await load.progress(100)
            proxy.reset()
        await load.progress(100)
        await load.stop()
        assert load.failed == []
        assert producer.statistics.reconnects == 3
    await check(amqp_url, load)


async def test_a_link_that_is_slow_narrow_and_sliced(amqp_url: str) -> None:
    await declare(amqp_url, "tasks")
    async with Proxy(amqp_url) as proxy, Producer(proxy.url, source="tests") as producer:
        proxy.set(latency=0.01, slice=5)
        load = Load(producer)
        await load.progress(200)
        await load.stop()
        assert (load.failed, producer.statistics.retried) == ([], 0)
    await check(amqp_url, load)


@pytest.mark.parametrize(("heartbeat", "wait"), [(1, 30), (0, 6)], ids=["no heartbeats", "no confirms"])
async def test_a_dead_link_is_noticed_by_its_silence(amqp_url: str, heartbeat: int, wait: float) -> None:
    """The server's end is gone, and the client is never told."""
    await declare(amqp_url, "tasks")
    async with (
        Proxy(amqp_url) as proxy,
        Producer(f"{proxy.url}?heartbeat={heartbeat}", source="tests", wait=wait) as producer,
    ):
        load = Load(producer)
        await load.progress(100)
        proxy.half_open()
        await load.progress(100)
        await load.stop()
        assert load.failed == []
        assert producer.statistics.reconnects == 1
        assert producer.statistics.retried > 0
    await check(amqp_url, load)


async def test_an_unanswered_event_fails_in_time_and_says_that_it_may_have_arrived(amqp_url: str) -> None:
    await declare(amqp_url, "tasks")
    async with Proxy(amqp_url) as proxy, Producer(proxy.url, source="tests", wait=0.5) as producer:
        proxy.hold()
        with pytest.raises(
            NotConfirmed, match="it may have arrived: send it again under the same id"
        ) as caught:
            await producer.send("task.created", task(), id="perhaps")
        assert caught.value.maybe_sent
        proxy.heal()
        await producer.send(caught.value.events[0])
    events = await landed(amqp_url)
    assert [event["id"] for event in events] == ["perhaps", "perhaps"]
    assert events[0] == events[1]


async def test_closing_is_bounded_and_names_what_is_not_confirmed(amqp_url: str) -> None:
    await declare(amqp_url, "tasks")
    async with Proxy(amqp_url) as proxy:
        producer = Producer(proxy.url, source="tests", close_wait=0.3, max_in_flight=3)
        await producer.start()
        proxy.hold()
        futures = [await producer.enqueue("task.created", task(), id=f"e{n}") for n in range(3)]
        late = asyncio.create_task(producer.send("task.created", task(), id="late"))
        await eventually(lambda: producer.statistics.waiting_callers == 1)
        with pytest.raises(NotConfirmed) as caught:
            await asyncio.wait_for(producer.close(), 10)
        assert sorted(caught.value.event_ids) == ["e0", "e1", "e2"]
        assert all(isinstance(future.exception(), ProducerClosed) for future in futures)
        with pytest.raises(ProducerClosed, match="late"):
            await late
        assert producer.statistics.in_flight == 0


async def test_a_caller_that_finds_no_room_is_told_in_time(amqp_url: str) -> None:
    await declare(amqp_url, "tasks")
    async with (
        Proxy(amqp_url) as proxy,
        Producer(proxy.url, source="tests", wait=1, max_in_flight=2) as producer,
    ):
        proxy.hold()
        sends = (producer.send("task.created", task()) for _ in range(5))
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert sorted(str(result)[:18] for result in results) == [
            *["no room within 1 s"] * 3,
            *["not confirmed with"] * 2,
        ]
        proxy.heal()
        await producer.send("task.created", task())
