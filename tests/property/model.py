"""What must be stored, by the plainest of means: sort all events, then look for the last of each kind.

Shares no code with the handlers. A round's decision is taken as it is stored; `first_decision` says which
one the order of commits makes right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.making import order

Row = dict[str, Any]
STATUS = {
    "task.assigned": "assigned",
    "task.started": "processing",
    "task.completed": "completed",
    "task.failed": "failed",
    "task.cancelled": "cancelled",
}
OUTCOMES = ("task.completed", "task.failed", "task.cancelled")
POINTS = {"completed": 10, "failed": -5, "agreed": 3}


def lives(events: Iterable[Any], entity: str) -> dict[Any, list[Any]]:
    """Each entity's events in their order."""
    groups = defaultdict(list)
    for event in sorted(events, key=order):
        groups[getattr(event.data, entity)].append(event)
    return groups


def last(life: Sequence[Any], *types: str, where: Callable[[Any], Any] = lambda event: True) -> Any:
    return next((event for event in reversed(life) if event.type in types and where(event)), None)


def task_rows(events: Iterable[Any]) -> dict[UUID, Row]:
    return {task_id: _task(life) for task_id, life in lives(events, "task_id").items()}


def _task(life: Sequence[Any]) -> Row:
    created = last(life, "task.created")
    owner = last(
        life,
        "task.created",
        "task.assigned",
        "task.started",
        where=lambda event: event.data.agent_id is not None,
    )
    status = last(life, "task.created", *STATUS)
    progress = last(life, "task.progressed")
    outcome = last(life, *OUTCOMES)
    assigned, started = last(life, "task.assigned"), last(life, "task.started")
    row: Row = {"status": "pending"}
    if status is not None:
        given = status.type == "task.created" and status.data.agent_id is not None
        row["status"] = "assigned" if given else STATUS.get(status.type, "pending")
    for name in ("kind", "user_id", "priority", "payload"):
        row[name] = getattr(created.data, name) if created else 0 if name == "priority" else None
    row["agent_id"] = owner.data.agent_id if owner else None
    row["progress"] = progress.data.progress if progress else None
    row["note"] = progress.data.note if progress else None
    for name in ("result", "error", "retryable", "reason"):
        row[name] = getattr(outcome.data, name, None) if outcome else None
    if row["error"] is not None:
        row["error"] = row["error"].model_dump()
    row["finished_at"] = outcome.time if outcome else None
    row["assigned_at"] = assigned.time if assigned else None
    row["started_at"] = started.time if started else None
    row["updated_at"] = life[-1].time
    return row


def agent_rows(events: Iterable[Any]) -> dict[UUID, Row]:
    rows = {}
    for agent_id, life in lives(events, "agent_id").items():
        registered, final = last(life, "agent.registered"), life[-1]
        if final.type == "agent.registered":
            status = "active" if final.data.is_active else "inactive"
        else:
            status = str(final.data.status)
        rows[agent_id] = {
            "status": status,
            "name": registered.data.name if registered else None,
            "capabilities": list(registered.data.capabilities) if registered else [],
            "is_active": registered.data.is_active if registered else True,
            "created_at": life[0].time,
            "updated_at": final.time,
        }
    return rows


def round_rows(events: Iterable[Any]) -> dict[UUID, Row]:
    rows = {}
    for round_id, life in lives(events, "round_id").items():
        opened, closed = last(life, "round.opened"), last(life, "round.closed")
        rows[round_id] = {
            "options": list(opened.data.options) if opened else None,
            "quorum": opened.data.quorum if opened else None,
            "task_id": opened.data.task_id if opened else None,
            "opened_at": opened.time if opened else None,
            "closes_at": opened.data.closes_at if opened else None,
            "closed_at": closed.time if closed else None,
        }
    return rows


def vote_rows(events: Iterable[Any]) -> dict[tuple[UUID, UUID], Row]:
    events = list(events)
    rounds = round_rows(events)
    rows = {}
    for event in sorted(events, key=order):
        if event.type.startswith("vote."):
            ends = [at for at in (rounds[event.data.round_id][n] for n in ("closes_at", "closed_at")) if at]
            rows[event.data.round_id, event.data.agent_id] = {
                "choice": getattr(event.data, "choice", None),
                "weight": getattr(event.data, "weight", None),
                "confidence": getattr(event.data, "confidence", None),
                "rationale": getattr(event.data, "rationale", None),
                "cast_at": event.time,
                "retracted": event.type == "vote.retracted",
                "late": any(event.time > at for at in ends),
            }
    return rows


def counting(events: Iterable[Any]) -> dict[tuple[UUID, UUID], Row]:
    """The votes that count: all choices do while the options are not known."""
    events = list(events)
    rounds = round_rows(events)
    return {
        key: vote
        for key, vote in vote_rows(events).items()
        if not vote["retracted"]
        and not vote["late"]
        and (rounds[key[0]]["options"] is None or vote["choice"] in rounds[key[0]]["options"])
    }


def tallies(events: Iterable[Any]) -> dict[tuple[UUID, str], tuple[Decimal, int]]:
    sums: dict[tuple[UUID, str], tuple[Decimal, int]] = {}
    for (round_id, _), vote in counting(events).items():
        weight, votes = sums.get((round_id, vote["choice"]), (Decimal(0), 0))
        sums[round_id, vote["choice"]] = (weight + vote["weight"], votes + 1)
    return sums


def first_decision(
    batches: Sequence[Sequence[Any]], round_id: UUID
) -> tuple[str, dict[str, Decimal], int] | None:
    """(choice, tally, votes) at the first commit that reaches the quorum."""
    seen: list[Any] = []
    for batch in batches:
        mine = [event for event in batch if event.data.round_id == round_id]
        seen += mine
        about = round_rows(seen).get(round_id)
        if not mine or about is None or about["options"] is None:
            continue
        sums = tallies(seen)
        tally = {option: sums.get((round_id, option), (Decimal(0), 0)) for option in about["options"]}
        if sum(weight for weight, _ in tally.values()) >= about["quorum"]:
            best = max(weight for weight, _ in tally.values())
            choice = next(option for option in about["options"] if tally[option][0] == best)
            return choice, {o: weight for o, (weight, _) in tally.items()}, sum(n for _, n in tally.values())
    return None


def scores(
    tasks: dict[UUID, Row], counted: dict[tuple[UUID, UUID], Row], decided: dict[UUID, tuple[str, datetime]]
) -> dict[tuple[UUID, date], Row]:
    """By agent and day, from stored decisions (choice and time by round)."""
    kinds: defaultdict[tuple[UUID, date], Counter[str]] = defaultdict(Counter)
    for task in tasks.values():
        if task["agent_id"] is not None and task["status"] in ("completed", "failed"):
            kinds[task["agent_id"], task["finished_at"].astimezone(UTC).date()][task["status"]] += 1
    for (round_id, agent_id), vote in counted.items():
        if round_id in decided and decided[round_id][0] == vote["choice"]:
            kinds[agent_id, decided[round_id][1].date()]["agreed"] += 1
    return {
        key: {
            "completed": counts["completed"],
            "failed": counts["failed"],
            "agreed": counts["agreed"],
            "points": sum(POINTS[kind] * number for kind, number in counts.items()),
        }
        for key, counts in kinds.items()
    }
