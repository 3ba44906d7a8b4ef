"""Events that no consumer may store, each with the reason it must be refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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


def _event(world: World, label: str, type_: str, data: dict[str, Any], at: datetime | str | None = None) -> SimEvent:
    when = at if isinstance(at, str) else rfc3339(at or world.now)
    return SimEvent(f"bad:{world.run}:{label}", world.source(ORCHESTRATOR), type_, when, data)


def _tasks(world: World) -> list[Fault]:
    def task(at: datetime | None = None) -> str:
        return str(uuid7(at or world.now, world.ids))

    agent = world.agent("scout")

    def fault(reason: Reason, label: str, type_: str, data: dict[str, Any], at: Any = None) -> Fault:
        return Fault(_event(world, label, type_, data, at), reason)

    far = timedelta(days=365 * 40)
    return [
        fault(Reason.UNKNOWN_TYPE, "task-exploded", "task.exploded", {"task_id": task()}),
        fault(Reason.UNKNOWN_TYPE, "agent-sang", "agent.sang", {"agent_id": agent, "song": "la"}),
        fault(Reason.UNKNOWN_TYPE, "vote-weighed", "vote.weighed", {"round_id": task(), "agent_id": agent}),
        fault(Reason.INVALID_EVENT, "progress-over-1", "task.progressed", {"task_id": task(), "progress": 1.7}),
        fault(Reason.INVALID_EVENT, "priority-12", "task.created", {"task_id": task(), "kind": "x", "priority": 12}),
        fault(Reason.INVALID_EVENT, "kind-missing", "task.created", {"task_id": task(), "priority": 1}),
        fault(Reason.INVALID_EVENT, "id-not-v7", "task.started", {"task_id": agent}),
        fault(Reason.INVALID_EVENT, "number-as-text", "task.progressed", {"task_id": task(), "progress": "0.5"}),
        fault(Reason.INVALID_EVENT, "nul", "task.completed", {"task_id": task(), "result": {"out": "a\x00b"}}),
        fault(Reason.INVALID_EVENT, "one-option", "round.opened", {"round_id": task(), "options": ["a"], "quorum": 1}),
        fault(Reason.INVALID_EVENT, "status", "agent.status_changed", {"agent_id": agent, "status": "asleep"}),
        fault(Reason.INVALID_EVENT, "no-zone", "task.started", {"task_id": task()}, world.now.strftime("%Y-%m-%dT%H:%M:%S")),
        fault(Reason.OUTSIDE_WINDOW, "id-of-1990", "task.created", {"task_id": task(LONG_AGO), "kind": "x"}),
        fault(Reason.OUTSIDE_WINDOW, "id-of-2099", "task.created", {"task_id": task(FAR_AHEAD), "kind": "x"}),
        fault(Reason.OUTSIDE_WINDOW, "round-of-2099", "round.closed", {"round_id": task(FAR_AHEAD)}),
        fault(Reason.OUTSIDE_WINDOW, "time-in-1990", "task.started", {"task_id": task()}, LONG_AGO),
        fault(Reason.OUTSIDE_WINDOW, "time-far-ahead", "task.started", {"task_id": task()}, world.now + far),
    ]  # fmt: skip


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
    makers: tuple[Callable[[World], list[Fault]], ...] = (_tasks, _garbled)
    faults = [fault for make in makers for fault in make(world)]
    world.rng.shuffle(faults)
    return faults
