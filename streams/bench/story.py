"""What is published in a measurement: events of tasks, rounds and agents, seeded, and made fast.

The mix, in events: 85 % tasks, each of them created, assigned, started, progressed and completed, some 200
under way at any time; 13 % votes, in rounds of one `round.opened`, ten `vote.cast` (decided by the seventh)
and one `round.closed`, 20 open at any time; 2 % agents changing their status. First each agent registers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

TASKS: Final = 0.85
VOTES: Final = 0.13
TASKS_UNDER_WAY: Final = 200
ROUNDS_OPEN: Final = 20
VOTES_PER_ROUND: Final = 10
QUORUM: Final = 7
USERS: Final = 1000
SOURCES: Final = 7
EVENTS_PER_SECOND: Final = 20_000  # by their dates

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_KINDS: Final = ("research", "plan", "implement", "review", "test", "document", "critique")
_STATUSES: Final = ("active", "processing", "inactive", "paused")
_OPTIONS: Final = ("approve", "revise", "reject")


class Event(NamedTuple):
    """One CloudEvent as JSON."""

    exchange: str
    type: str
    body: str


class Message(NamedTuple):
    """One AMQP message of one event or of an array of them."""

    exchange: str
    routing_key: str
    content_type: str
    body: bytes
    traceparent: str
    events: int


@dataclass(slots=True)
class Told:
    """What must be stored in the end; `ids`: the last 48 bits of all ids, by exclusive or."""

    events: int = 0
    ids: int = 0
    tasks: int = 0
    completed: int = 0
    rounds: int = 0
    decided: int = 0
    agents: int = 0


@dataclass(slots=True)
class _Task:
    id: str
    agent: str
    stage: int = 0


@dataclass(slots=True)
class _Round:
    id: str
    voters: list[str]
    stage: int = 0


@dataclass(slots=True)
class Story:
    """An endless story; `events(n)` tells the next n of it.

    Args:
        name: part of every event's source, so that two stories never share an event.
        seed: the same seed, the same story (its dates are those of its telling).
        payload: bytes of prose in a task's payload and in its result.
    """

    name: str
    seed: int = 1
    payload: int = 200
    agents: int = 200
    told: Told = field(default_factory=Told)
    _rng: Random = field(init=False)
    _prose: str = field(init=False)
    _agents: list[str] = field(init=False)
    _users: list[str] = field(init=False)
    _tasks: list[_Task] = field(init=False)
    _rounds: list[_Round] = field(init=False)
    _micros: int = field(init=False)
    _stamp: tuple[int, str] = field(default=(0, ""))

    def __post_init__(self) -> None:
        rng = self._rng = Random(self.seed)
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]
        self._prose = " ".join(rng.choices(words, k=12_000))
        self._agents = [_uuid(rng) for _ in range(self.agents)]
        self._users = [_uuid(rng) for _ in range(USERS)]
        self._micros = time.time_ns() // 1000
        self._tasks = []
        self._rounds = []

    def events(self, count: int) -> Iterator[Event]:
        """The next `count` events, dated evenly up to now."""
        self._micros = time.time_ns() // 1000 - count * 1_000_000 // EVENTS_PER_SECOND
        for _ in range(count):
            self._micros += 1_000_000 // EVENTS_PER_SECOND
            yield self.next()

    def next(self, micros: int | None = None) -> Event:
        """The next event, dated `micros` microseconds since 1970 if given."""
        if micros is not None:
            self._micros = micros
        if self.told.agents < len(self._agents):
            return self._register()
        which = self._rng.random()
        if which < TASKS:
            return self._task()
        return self._vote() if which < TASKS + VOTES else self._status()

    def _register(self) -> Event:
        number = self.told.agents
        self.told.agents += 1
        return self._say(
            "agents",
            "agent.registered",
            f'"agent_id":"{self._agents[number]}","name":"agent {number}","capabilities":["plan","review"]',
        )

    def _status(self) -> Event:
        agent, status = self._rng.choice(self._agents), self._rng.choice(_STATUSES)
        return self._say("agents", "agent.status_changed", f'"agent_id":"{agent}","status":"{status}"')

    def _task(self) -> Event:
        rng = self._rng
        place = int(rng.random() * TASKS_UNDER_WAY)
        if place >= len(self._tasks):
            place = len(self._tasks)
            self._tasks.append(_Task(self._uuid7(), rng.choice(self._agents)))
        task = self._tasks[place]
        task.stage += 1
        about = f'"task_id":"{task.id}"'
        match task.stage:
            case 1:
                return self._created(about)
            case 2:
                return self._say("tasks", "task.assigned", f'{about},"agent_id":"{task.agent}"')
            case 3:
                return self._say("tasks", "task.started", f'{about},"agent_id":"{task.agent}"')
            case 4:
                return self._say(
                    "tasks", "task.progressed", f'{about},"progress":0.5,"note":"half way there"'
                )
            case _:
                self.told.completed += 1
                self._tasks[place] = _Task(self._uuid7(), rng.choice(self._agents))
                return self._say(
                    "tasks", "task.completed", f'{about},"result":{{"summary":"{self._text()}"}}'
                )

    def _created(self, about: str) -> Event:
        rng = self._rng
        self.told.tasks += 1
        kind, user, priority = rng.choice(_KINDS), rng.choice(self._users), int(rng.random() * 10)
        return self._say(
            "tasks",
            "task.created",
            f'{about},"kind":"{kind}","user_id":"{user}","priority":{priority},'
            f'"payload":{{"prompt":"{self._text()}"}}',
        )

    def _vote(self) -> Event:
        rng = self._rng
        place = int(rng.random() * ROUNDS_OPEN)
        if place >= len(self._rounds):
            place = len(self._rounds)
            self._rounds.append(self._new_round())
        round_ = self._rounds[place]
        about = f'"round_id":"{round_.id}"'
        round_.stage += 1
        if round_.stage == 1:
            self.told.rounds += 1
            return self._say(
                "votes",
                "round.opened",
                f'{about},"options":["approve","revise","reject"],"quorum":{QUORUM}',
            )
        if round_.voters:
            if round_.stage == QUORUM + 1:
                self.told.decided += 1
            agent, choice = round_.voters.pop(), rng.choice(_OPTIONS)
            confidence = int(rng.random() * 100) / 100
            return self._say(
                "votes",
                "vote.cast",
                f'{about},"agent_id":"{agent}","choice":"{choice}","confidence":{confidence}',
            )
        self._rounds[place] = self._new_round()
        return self._say("votes", "round.closed", about)

    def _new_round(self) -> _Round:
        return _Round(self._uuid7(), self._rng.sample(self._agents, VOTES_PER_ROUND))

    def _say(self, exchange: str, type_: str, data: str) -> Event:
        id_ = _uuid(self._rng)
        told = self.told
        told.events += 1
        told.ids ^= int(id_[24:], 16)
        source = told.events % SOURCES
        return Event(
            exchange,
            type_,
            f'{{"specversion":"1.0","id":"{id_}","source":"urn:bench:{self.name}:{source}","type":"{type_}",'
            f'"time":"{self._time()}","datacontenttype":"application/json","data":{{{data}}}}}',
        )

    def _text(self) -> str:
        length = min(self.payload, len(self._prose))
        start = int(self._rng.random() * (len(self._prose) - length))
        return self._prose[start : start + length]

    def _time(self) -> str:
        """RFC 3339; the text up to the second is made once a second."""
        second, micros = divmod(self._micros, 1_000_000)
        if second != self._stamp[0]:
            self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp[1]}.{micros:06d}Z"

    def _uuid7(self) -> str:
        noise = f"{self._rng.getrandbits(72):018x}"
        head = f"{self._micros // 1000:012x}"
        return f"{head[:8]}-{head[8:]}-7{noise[:3]}-8{noise[3:6]}-{noise[6:]}"


class Creations(Story):
    """Another: each event creates a task that nothing more is heard of; no two of a batch can be merged."""

    def next(self, micros: int | None = None) -> Event:
        if micros is not None:
            self._micros = micros
        return self._created(f'"task_id":"{self._uuid7()}"')


def _uuid(rng: Random) -> str:
    noise = f"{rng.getrandbits(128):032x}"
    return f"{noise[:8]}-{noise[8:12]}-4{noise[13:16]}-8{noise[17:20]}-{noise[20:]}"


def singles(events: Iterator[Event], rng: Random) -> Iterator[Message]:
    """One message per event, each in a trace of its own."""
    for exchange, type_, body in events:
        yield Message(exchange, type_, STRUCTURED, body.encode(), traceparent(rng), 1)


def arrays(events: Iterator[Event], size: int, rng: Random) -> Iterator[Message]:
    """Arrays of `size` events of one exchange; the trace context is the message's."""
    waiting: dict[str, list[str]] = {}
    for exchange, _, body in events:
        bodies = waiting.setdefault(exchange, [])
        bodies.append(body)
        if len(bodies) == size:
            del waiting[exchange]
            yield _array(exchange, bodies, rng)
    for exchange, bodies in waiting.items():
        yield _array(exchange, bodies, rng)


def _array(exchange: str, bodies: list[str], rng: Random) -> Message:
    body = f"[{','.join(bodies)}]".encode()
    return Message(exchange, f"{exchange}.batch", BATCH, body, traceparent(rng), len(bodies))


def traceparent(rng: Random) -> str:
    """The context of a sampled trace."""
    return f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"
