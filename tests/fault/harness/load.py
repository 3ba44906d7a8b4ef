"""Events of simulated agents, published with confirms whatever happens to the broker; and the ledger."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, cast

import aio_pika
import aiormq
import orjson
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.channel import Channel

from streams.demo.faults import plan_faults
from streams.demo.ledger import Key, Ledger
from streams.demo.publish import lines_of
from streams.demo.simulator import AGENTS, ORCHESTRATOR, SimEvent, simulate
from streams.demo.traffic import Message, Planned, disturb, pack

IN_FLIGHT: Final = 300
CONFIRM_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 180.0  # for one message; faults end long before
_OVERHEAD: Final = 1.03  # events that lives which have begun add at the end

Arrange = Callable[[Sequence[SimEvent], Random], list[Planned]]


class Load:
    """Plans streams of events and keeps what was sent of them.

    Args:
        seed: what the agents do; names and ids differ in each trial all the same.
    """

    def __init__(self, seed: int = 1) -> None:
        self._rng = Random(seed)
        self._name = f"fault-{secrets.token_hex(4)}"
        self._waves = 0
        self.ledger = Ledger(self._name, [])
        self.attempted: set[Key] = set()
        """Good events that were given to the broker at least once, confirmed or not."""
        self.tasks: list[str] = []
        self.rounds: list[str] = []
        self.agents: list[str] = []
        self.users: list[str] = []

    def plan(
        self,
        events: int,
        *,
        rate: float = 1000.0,
        start: datetime | None = None,
        arrange: Arrange | None = None,
        bad: bool = True,
    ) -> list[Message]:
        """The messages of another crowd of agents: displaced, some twice, in all CloudEvents modes.

        Args:
            rate: events per second of the simulated clock.
            start: the first event's time; by default all have happened by now.
            arrange: the order and number of the events instead of `disturb`.
            bad: twenty events that must be refused go along.
        """
        self._waves += 1
        run, rng = f"{self._name}-{self._waves}", Random(self._rng.getrandbits(64))
        self.ledger.sources += [f"urn:demo:{run}:{who}" for who in (*AGENTS, ORCHESTRATOR)]
        start = start or datetime.now(UTC) - timedelta(seconds=_OVERHEAD * events / rate + 1)
        seed = rng.getrandbits(32)
        stream = simulate(run=run, seed=seed, start=start, rate=rate, events=events)
        faults = plan_faults(run=run, start=start, rate=rate, seed=seed) if bad else []
        planned = disturb(stream, faults, rng) if arrange is None else arrange(stream, rng)
        return list(pack(planned, rng))

    def note_attempt(self, message: Message) -> None:
        for planned in message.events:
            if planned.reason is None:
                self.attempted.add((planned.event.source, planned.event.id))

    def note_confirm(self, message: Message, published_at: float) -> None:
        self.ledger.record(lines_of(message, published_at, time.time()))
        for planned in message.events:
            if planned.reason is None:
                self._introduce(planned.event)

    def _introduce(self, event: SimEvent) -> None:
        """Readers may ask for what the event is about."""
        match event.type:
            case "task.created":
                self.tasks.append(event.data["task_id"])
                if (user := event.data.get("user_id")) is not None and user not in self.users:
                    self.users.append(user)
            case "round.opened":
                self.rounds.append(event.data["round_id"])
            case "agent.registered" if event.data["agent_id"] not in self.agents:
                self.agents.append(event.data["agent_id"])
            case _:
                pass


class Producer:
    """Publishes persistent, mandatory, confirmed messages; sends again until the broker has confirmed."""

    def __init__(self, url: str, load: Load) -> None:
        self._url = url
        self._load = load
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self.confirmed = 0
        """Messages confirmed so far."""
        self.sent_again = 0
        self.listed = True
        """Whether the ledger keeps what is sent."""

    async def send_all(self, messages: Iterable[Message], rate: float = 0.0) -> None:
        """Send all and return when each is confirmed.

        Args:
            rate: events per second; 0 is as fast as confirms come.

        Raises:
            AssertionError: the broker did not confirm one in 180 s.
        """
        slots, begin, events = asyncio.Semaphore(IN_FLIGHT), time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            for message in messages:
                events += len(message.events)
                await slots.acquire()
                ahead = begin + events / rate - time.perf_counter() if rate else 0.0
                if ahead > 0.002:
                    await asyncio.sleep(ahead)
                task = group.create_task(self._send(message))
                task.add_done_callback(lambda _: slots.release())

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _send(self, message: Message) -> None:
        published_at, deadline = time.time(), time.monotonic() + PATIENCE_SECONDS
        if self.listed:
            self._load.note_attempt(message)
        while True:
            channel = None
            try:
                channel = await self._open()
                await _publish(channel, message)
            except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"the broker did not confirm: {error!r}") from error
                self.sent_again += 1
                await self._forget(channel)
                await asyncio.sleep(0.3)
            else:
                self.confirmed += 1
                if self.listed:
                    self._load.note_confirm(message, published_at)
                return

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._connection = await aio_pika.connect(self._url, timeout=5)
                self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            return self._channel

    async def _forget(self, channel: AbstractChannel | None) -> None:
        """Whatever state it is in, the next attempt uses another."""
        if channel is None or channel is not self._channel:
            return
        connection, self._channel, self._connection = self._connection, None, None
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), 2)
            except (AMQPError, OSError, TimeoutError, RuntimeError):
                return  # it is gone already


async def _publish(channel: AbstractChannel, message: Message) -> None:
    # The channel beneath aio-pika's need not flush the socket after each message.
    under = cast("Channel", await channel.get_underlay_channel())
    await under.basic_publish(
        message.body,
        exchange=message.exchange,
        routing_key=message.routing_key,
        properties=aiormq.spec.Basic.Properties(
            content_type=message.content_type,
            headers=dict(message.headers),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message.message_id,
            message_type=message.type,
            app_id=message.app_id,
            timestamp=message.timestamp,
        ),
        mandatory=True,
        timeout=CONFIRM_SECONDS,
        wait=False,
    )


async def take_decisions(url: str, queue: str) -> list[dict[str, object]]:
    """Empty the trial's own queue of round.decided: the events' data, each with the event's id."""
    decided = []
    connection = await aio_pika.connect(url, timeout=30)
    async with connection:
        source = await (await connection.channel()).get_queue(queue, ensure=False)
        while (message := await source.get(no_ack=True, fail=False)) is not None:
            event = orjson.loads(message.body)
            decided.append({**event["data"], "id": event["id"]})
    return decided
