"""What seven agents would publish: tasks from creation to their end, votes in rounds, agents' status.

Pure and seeded: the same arguments give the same events. Shares nothing with the handlers; the
contract on the wire (design.md) is the only thing both know.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

AGENTS: Final = ("scout", "planner", "coder", "reviewer", "tester", "writer", "critic")
ORCHESTRATOR: Final = "orchestrator"
KINDS: Final = ("research", "plan", "implement", "review", "test", "document", "critique")
OPTIONS: Final = ("approve", "revise", "reject", "escalate")
EXCHANGES: Final = {"task": "tasks", "round": "votes", "vote": "votes", "agent": "agents"}
USERS: Final = 25

Life = Iterator[int]
"""An actor: emits events when resumed, yields for how many events of the others it then waits."""


@dataclass(frozen=True, slots=True)
class SimEvent:
    """One event as its producer states it; `time` is RFC 3339 text, `data` plain JSON."""

    id: str
    source: str
    type: str
    time: str
    data: dict[str, Any]

    @property
    def exchange(self) -> str:
        return EXCHANGES[self.type.partition(".")[0]]


def uuid7(at: datetime, rng: Random) -> UUID:
    """A UUIDv7 of this instant (RFC 9562): 48 bits of milliseconds, the rest random."""
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    fields = (
        (milliseconds << 80) | (0x7 << 76) | (rng.getrandbits(12) << 64) | (0b10 << 62) | rng.getrandbits(62)
    )
    return UUID(int=fields)


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class World:
    """Clock, names and the record of what was said so far.

    The clock follows the events: the n-th is dated `start + n / rate`, so that a run published at
    that rate dates its events as they go out. One in fifty shares the instant of the one before it,
    so that ties of time are decided by rank, source and id.
    """

    run: str
    start: datetime
    rate: float
    rng: Random
    ids: Random
    events: list[SimEvent] = field(default_factory=list)
    now: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.start

    def source(self, name: str) -> str:
        return f"urn:demo:{self.run}:{name}"

    def agent(self, name: str) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.source(name)}/agent"))

    def user(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.source('user')}/{self.rng.randrange(USERS)}"))

    def new_id(self) -> str:
        return str(uuid7(self.now, self.ids))

    def say(self, who: str, type_: str, /, **data: Any) -> None:
        if self.rng.random() >= 0.02:
            self.now = self.start + timedelta(seconds=len(self.events) / self.rate)
        self.events.append(SimEvent(self.new_id(), self.source(who), type_, rfc3339(self.now), data))


def agent_life(world: World, name: str, target: int) -> Life:
    """Registers, then changes its status now and then as long as the run lasts."""
    rng, agent_id = world.rng, world.agent(name)
    capabilities = rng.sample(KINDS, k=rng.randint(1, 4))
    world.say(
        name, "agent.registered", agent_id=agent_id, name=name, capabilities=capabilities, is_active=True
    )
    while len(world.events) < target:
        yield rng.randint(40, 220)
        status = rng.choices(("active", "processing", "inactive", "paused"), weights=(4, 4, 1, 1))[0]
        world.say(name, "agent.status_changed", agent_id=agent_id, status=status)
        if rng.random() < 0.03:  # came up again with other abilities
            more = rng.sample(KINDS, k=rng.randint(1, 5))
            world.say(name, "agent.registered", agent_id=agent_id, name=name.title(), capabilities=more)


def task_life(world: World) -> Life:
    """One task: created, handed to an agent (perhaps twice), worked on, ended; failures may be retried."""
    rng, task_id = world.rng, world.new_id()
    worker = rng.choice(AGENTS)
    created: dict[str, Any] = {"task_id": task_id, "kind": rng.choice(KINDS), "priority": rng.randint(0, 9)}
    if rng.random() < 0.9:
        created["user_id"] = world.user()
    if rng.random() < 0.15:
        created["agent_id"] = world.agent(worker)
    if rng.random() < 0.95:
        created["payload"] = {
            "repository": f"project-{rng.randrange(40)}",
            "budget": rng.randint(1, 50) * 100,
        }
    world.say(ORCHESTRATOR, "task.created", **created)
    yield rng.randint(1, 150)
    if rng.random() < 0.05:
        world.say(ORCHESTRATOR, "task.cancelled", task_id=task_id, **_maybe(rng, reason="no longer needed"))
        return
    world.say(ORCHESTRATOR, "task.assigned", task_id=task_id, agent_id=world.agent(worker))
    yield rng.randint(1, 150)
    for attempt in range(3):
        if rng.random() < 0.1:  # handed to another agent
            worker = rng.choice(AGENTS)
            world.say(ORCHESTRATOR, "task.assigned", task_id=task_id, agent_id=world.agent(worker))
            yield rng.randint(1, 100)
        retry = yield from _attempt(world, task_id, worker, attempt)
        if not retry:
            return
        yield rng.randint(20, 250)


def _attempt(world: World, task_id: str, worker: str, attempt: int) -> Generator[int, None, bool]:
    """Work on a task from its start to an end; returns whether it is to be tried again."""
    rng = world.rng
    started = {"agent_id": world.agent(worker)} if rng.random() < 0.7 else {}
    world.say(worker, "task.started", task_id=task_id, **started)
    steps = rng.randint(2, 6)
    for step in range(1, steps + 1):
        yield rng.randint(1, 120)
        if rng.random() < 0.008:
            world.say(ORCHESTRATOR, "task.cancelled", task_id=task_id, **_maybe(rng, reason="superseded"))
            return False
        done = round(step / (steps + 1), 3)
        note = _maybe(rng, note=f"step {step} of {steps}, attempt {attempt + 1}")
        world.say(worker, "task.progressed", task_id=task_id, progress=done, **note)
    yield rng.randint(1, 120)
    if rng.random() < 0.15:
        retryable = attempt < 2 and rng.random() < 0.8
        error = {
            "code": rng.choice(("timeout", "tool_failed", "context_overflow")),
            "message": "gave up after 3 calls",
        }
        world.say(worker, "task.failed", task_id=task_id, error=error, retryable=retryable)
        return retryable
    world.say(
        worker,
        "task.completed",
        task_id=task_id,
        **_maybe(rng, result={"files": rng.randint(1, 30), "ok": True}),
    )
    return False


def round_life(world: World) -> Life:
    """One round: opened, voted in with second thoughts, closed, voted in too late."""
    rng, round_id = world.rng, world.new_id()
    options = list(rng.sample(OPTIONS, k=rng.randint(2, 4)))
    opened: dict[str, Any] = {
        "round_id": round_id,
        "options": options,
        "quorum": rng.choice((1, 2, 3, 3, 4, 2.5, 9)),
    }
    if rng.random() < 0.3:  # a deadline: some fall inside the voting, some long after it
        deadline = world.now + timedelta(seconds=rng.choice((150, 400, 5000)) / world.rate)
        opened["closes_at"] = rfc3339(deadline)
    if rng.random() < 0.5:
        opened["task_id"] = str(uuid7(world.now, world.ids))
    world.say(ORCHESTRATOR, "round.opened", **opened)
    favourite = rng.choice(options)
    for voter in rng.sample(AGENTS, k=rng.randint(3, 7)):
        yield rng.randint(1, 80)
        _cast(world, round_id, voter, favourite if rng.random() < 0.6 else rng.choice(options))
        if rng.random() < 0.12:
            yield rng.randint(1, 40)
            _cast(world, round_id, voter, rng.choice(options))
        if rng.random() < 0.06:
            yield rng.randint(1, 40)
            world.say(voter, "vote.retracted", round_id=round_id, agent_id=world.agent(voter))
    yield rng.randint(10, 100)
    if rng.random() < 0.9:
        world.say(ORCHESTRATOR, "round.closed", round_id=round_id)
        if rng.random() < 0.2:
            yield rng.randint(1, 60)
            _cast(world, round_id, rng.choice(AGENTS), rng.choice(options))


def _cast(world: World, round_id: str, voter: str, choice: str) -> None:
    rng = world.rng
    extra: dict[str, Any] = {}
    if rng.random() < 0.5:
        extra["weight"] = rng.choice((1, 2, 0.5, 1.25, 0.333333))
    if rng.random() < 0.7:
        extra["confidence"] = round(rng.random(), 3)
    if rng.random() < 0.3:
        extra["rationale"] = f"{voter} finds {choice} best"
    world.say(voter, "vote.cast", round_id=round_id, agent_id=world.agent(voter), choice=choice, **extra)


def _maybe(rng: Random, **optional: Any) -> dict[str, Any]:
    return optional if rng.random() < 0.75 else {}


def simulate(*, run: str, seed: int, start: datetime, rate: float, events: int) -> list[SimEvent]:
    """At least `events` events in the order of their time.

    Args:
        run: names this run; part of every source and so of every id, which keeps runs apart.
        seed: what the agents do.
        start: the first event's time; must have a zone.
        rate: events per second of the simulated clock.
        events: lower bound; lives that have begun are led to their end, which adds a few.
    """
    world = World(run, start, rate, Random(seed), Random(f"{run}/{seed}"))
    crowd = max(4, min(160, events // 60))  # lives that go on side by side
    lives: list[tuple[int, int, Life]] = []
    born = 0

    def spawn(life: Life, due: int) -> None:
        nonlocal born
        born += 1
        heapq.heappush(lives, (due, born, life))

    for name in AGENTS:
        spawn(agent_life(world, name, events), 0)
    while lives or len(world.events) < events:
        unfinished = 4 * (len(lives) - len(AGENTS))
        while len(lives) < crowd + len(AGENTS) and len(world.events) + unfinished < events:
            life = round_life(world) if world.rng.random() < 0.22 else task_life(world)
            spawn(life, len(world.events) + world.rng.randint(0, 20))
            unfinished += 4
        if not lives:
            break
        due, _, life = heapq.heappop(lives)
        wait = next(life, None)
        if wait is not None:
            spawn(life, max(due, len(world.events)) + wait)
    return world.events
