"""Events that no consumer may store, each with the reason it must be refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from schemas.errors import Reason
from streams.demo.simulator import ORCHESTRATOR, SimEvent, World, rfc3339, uuid7

LONG_AGO: Final = datetime(1990, 1, 1, tzinfo=UTC)
FAR_AHEAD: Final = datetime(2099, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Fault:
    """A bad event. `raw`, where given, is the body as sent; else the event is encoded like any other.

    The event's id stands in every body as it was sent, undecodable ones included: that is how a dead
    letter is known again.
    """

    event: SimEvent
    reason: Reason
    raw: bytes | None = None


def _event(
    world: World, label: str, type_: str, data: dict[str, Any], at: datetime | str | None = None
) -> SimEvent:
    when = at if isinstance(at, str) else rfc3339(at or world.now)
    return SimEvent(f"bad:{world.run}:{label}", world.source(ORCHESTRATOR), type_, when, data)


def _readable(world: World) -> list[Fault]:
    def new(at: datetime | None = None) -> str:
        return str(uuid7(at or world.now, world.ids))

    def bad(reason: Reason, label: str, type_: str, at: datetime | str | None = None, **data: Any) -> Fault:
        return Fault(_event(world, label, type_, data, at), reason)

    unknown, invalid, outside = Reason.UNKNOWN_TYPE, Reason.INVALID_EVENT, Reason.OUTSIDE_WINDOW
    agent, no_zone = world.agent("scout"), world.now.strftime("%Y-%m-%dT%H:%M:%S")
    return [
        bad(unknown, "task-exploded", "task.exploded", task_id=new()),
        bad(unknown, "agent-sang", "agent.sang", agent_id=agent, song="la"),
        bad(unknown, "vote-weighed", "vote.weighed", round_id=new(), agent_id=agent),
        bad(invalid, "progress-over-1", "task.progressed", task_id=new(), progress=1.7),
        bad(invalid, "priority-12", "task.created", task_id=new(), kind="x", priority=12),
        bad(invalid, "kind-missing", "task.created", task_id=new(), priority=1),
        bad(invalid, "id-not-v7", "task.started", task_id=agent),
        bad(invalid, "number-as-text", "task.progressed", task_id=new(), progress="0.5"),
        bad(invalid, "nul", "task.completed", task_id=new(), result={"out": "a\x00b"}),
        bad(invalid, "one-option", "round.opened", round_id=new(), options=["a"], quorum=1),
        bad(invalid, "unknown-status", "agent.status_changed", agent_id=agent, status="asleep"),
        bad(invalid, "no-zone", "task.started", no_zone, task_id=new()),
        bad(outside, "id-of-1990", "task.created", task_id=new(LONG_AGO), kind="x"),
        bad(outside, "id-of-2099", "task.created", task_id=new(FAR_AHEAD), kind="x"),
        bad(outside, "round-of-2099", "round.closed", round_id=new(FAR_AHEAD)),
        bad(outside, "time-in-1990", "task.started", LONG_AGO, task_id=new()),
        bad(outside, "time-in-2099", "task.started", FAR_AHEAD, task_id=new()),
    ]


def _garbled(world: World) -> list[Fault]:
    cut = _event(world, "cut-short", "task.created", {})
    text = _event(world, "no-json", "vote.cast", {})
    binary = _event(world, "no-utf8", "agent.registered", {})
    return [
        Fault(cut, Reason.UNDECODABLE, b'{"specversion":"1.0","id":"' + cut.id.encode() + b'","data":{'),
        Fault(text, Reason.UNDECODABLE, b"this is no JSON: " + text.id.encode()),
        Fault(binary, Reason.UNDECODABLE, b"\xff\xfe\x00" + binary.id.encode()),
    ]


def plan_faults(*, run: str, start: datetime, rate: float, seed: int) -> list[Fault]:
    """Twenty bad events of four kinds, in a seeded order."""
    world = World(run, start, rate, Random(seed), Random(f"{run}/faults/{seed}"))
    makers: tuple[Callable[[World], list[Fault]], ...] = (_readable, _garbled)
    faults = [fault for make in makers for fault in make(world)]
    world.rng.shuffle(faults)
    return faults
