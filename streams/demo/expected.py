"""What must be stored once everything the ledger holds has been handled: an independent fold.

Written from the contract (docs/merge-table.md) and from nothing else: it imports no handler and does not
use the events' own `stamp`. Rows are plain dicts of comparable Python values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from streams.demo.ledger import Sent

Row = dict[str, Any]
Table = dict[tuple[Any, ...], Row]

RANKS: Final = {
    "task.created": 0,
    "task.assigned": 1,
    "task.started": 2,
    "task.progressed": 3,
    "task.failed": 4,
    "task.completed": 5,
    "task.cancelled": 6,
    "round.opened": 0,
    "vote.cast": 1,
    "vote.retracted": 2,
    "round.closed": 3,
    "agent.registered": 0,
    "agent.status_changed": 1,
}
STATUS_AFTER: Final = {
    "task.created": "pending",  # or assigned, if it names an agent
    "task.assigned": "assigned",
    "task.started": "processing",
    "task.completed": "completed",
    "task.failed": "failed",
    "task.cancelled": "cancelled",
}
ENDS: Final = {"task.completed", "task.failed", "task.cancelled"}
POINTS_COMPLETED: Final = 10
POINTS_FAILED: Final = -5
POINTS_AGREED: Final = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """A round's decision as it is stored; which votes were there first is not to be known from outside."""

    choice: str
    decided_at: datetime | None
    tally: Mapping[str, Decimal] = field(default_factory=dict)
    votes: int = 0


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def created_at(entity_id: UUID) -> datetime:
    """The instant inside a UUIDv7."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=entity_id.int >> 80)


def order(event: Sent) -> tuple[datetime, int, bytes, bytes]:
    """The total order: time, rank, source, id; text by its bytes."""
    return instant(event.time), RANKS[event.type], event.source.encode(), event.id.encode()


def by_entity(events: Iterable[Sent], name: str, *prefixes: str) -> dict[UUID, list[Sent]]:
    """Events whose type has one of the prefixes, by the UUID in `data[name]`, in their total order."""
    groups: defaultdict[UUID, list[Sent]] = defaultdict(list)
    for event in events:
        if event.type.startswith(prefixes):
            groups[UUID(event.data[name])].append(event)
    return {entity: sorted(group, key=order) for entity, group in groups.items()}


def _last(events: list[Sent], *types: str) -> Sent | None:
    return next((event for event in reversed(events) if event.type in types), None)


def fold_tasks(events: Iterable[Sent]) -> Table:
    """`tasks` by (id,)."""
    return {(task,): _task(task, life) for task, life in by_entity(events, "task_id", "task.").items()}


def _task(task_id: UUID, life: list[Sent]) -> Row:
    created, progressed = _last(life, "task.created"), _last(life, "task.progressed")
    assigned, started = _last(life, "task.assigned"), _last(life, "task.started")
    outcome = _last(life, *ENDS)
    named = [event for event in life if event.type in {"task.created", "task.assigned", "task.started"}]
    agents = [event.data["agent_id"] for event in named if event.data.get("agent_id") is not None]
    about = created.data if created else {}
    end = outcome.data if outcome else {}
    user = about.get("user_id")
    return {
        "created_at": created_at(task_id),
        "status": _status(_last(life, *STATUS_AFTER)),
        "kind": about.get("kind"),
        "agent_id": UUID(agents[-1]) if agents else None,
        "user_id": UUID(user) if user else None,
        "priority": about.get("priority", 0),
        "progress": progressed.data["progress"] if progressed else None,
        "note": progressed.data.get("note") if progressed else None,
        "payload": about.get("payload", {}) if created else None,
        "result": end.get("result", {}) if outcome and outcome.type == "task.completed" else None,
        "error": end.get("error"),
        "retryable": end.get("retryable", False) if outcome and outcome.type == "task.failed" else None,
        "reason": end.get("reason"),
        "assigned_at": instant(assigned.time) if assigned else None,
        "started_at": instant(started.time) if started else None,
        "finished_at": instant(outcome.time) if outcome else None,
        "updated_at": instant(life[-1].time),
    }


def _status(event: Sent | None) -> str:
    if event is None:
        return "pending"
    handed_out = event.type == "task.created" and event.data.get("agent_id") is not None
    return "assigned" if handed_out else STATUS_AFTER[event.type]


def fold_rounds(events: Iterable[Sent]) -> Table:
    """`rounds` by (id,), without the decision."""
    rounds: Table = {}
    for round_id, life in by_entity(events, "round_id", "round.", "vote.").items():
        opened, closed = _last(life, "round.opened"), _last(life, "round.closed")
        about = opened.data if opened else {}
        rounds[(round_id,)] = {
            "created_at": created_at(round_id),
            "task_id": UUID(about["task_id"]) if about.get("task_id") else None,
            "options": about.get("options"),
            "quorum": Decimal(str(about["quorum"])) if about else None,
            "opened_at": instant(opened.time) if opened else None,
            "closes_at": instant(about["closes_at"]) if about.get("closes_at") else None,
            "closed_at": instant(closed.time) if closed else None,
        }
    return rounds


def fold_votes(events: Iterable[Sent], rounds: Table) -> Table:
    """`votes` by (round, agent): the latest word of each agent, late or not by the round's end."""
    votes: Table = {}
    for round_id, life in by_entity(events, "round_id", "vote.").items():
        about = rounds[(round_id,)]
        end = min((at for at in (about["closes_at"], about["closed_at"]) if at is not None), default=None)
        for event in life:  # in order: the last word stays
            cast = event.type == "vote.cast"
            at, data = instant(event.time), event.data
            votes[round_id, UUID(data["agent_id"])] = {
                "created_at": about["created_at"],
                "choice": data["choice"] if cast else None,
                "weight": Decimal(str(data.get("weight", 1))) if cast else None,
                "confidence": data.get("confidence") if cast else None,
                "rationale": data.get("rationale") if cast else None,
                "cast_at": at,
                "retracted": not cast,
                "late": end is not None and at > end,
            }
    return votes


def counted(vote: Row, options: list[str] | None) -> bool:
    """Whether a vote counts: not retracted, not late, for an option of a round that is known."""
    return not vote["retracted"] and not vote["late"] and (options is None or vote["choice"] in options)


def fold_tallies(votes: Table, rounds: Table) -> Table:
    """`round_tallies` by (round, choice): the sums of the votes that count."""
    tallies: Table = {}
    for (round_id, _), vote in votes.items():
        if counted(vote, rounds[(round_id,)]["options"]):
            row = tallies.setdefault((round_id, vote["choice"]), {"weight": Decimal(0), "votes": 0})
            row["weight"] += vote["weight"]
            row["votes"] += 1
    return tallies


def fold_agents(events: Iterable[Sent]) -> Table:
    """`agents` by (id,), without the reputation."""
    agents: Table = {}
    for agent_id, life in by_entity(events, "agent_id", "agent.").items():
        registered = _last(life, "agent.registered")
        about = registered.data if registered else {}
        agents[(agent_id,)] = {
            "status": _agent_status(life[-1]),
            "name": about.get("name"),
            "capabilities": list(about.get("capabilities", [])),
            "is_active": about.get("is_active", True),
        }
    return agents


def _agent_status(last: Sent) -> str:
    """What an agent's latest event makes of it."""
    if last.type == "agent.status_changed":
        return str(last.data["status"])
    return "active" if last.data.get("is_active", True) else "inactive"


def fold_scores(tasks: Table, votes: Table, rounds: Table, decisions: Mapping[UUID, Decision]) -> Table:
    """`agent_scores` by (agent, day): what finished tasks and agreeing votes earn."""
    tallied: defaultdict[tuple[UUID, date], Counter[str]] = defaultdict(Counter)
    for task in tasks.values():
        if task["agent_id"] is not None and task["status"] in ("completed", "failed"):
            tallied[task["agent_id"], task["finished_at"].date()][task["status"]] += 1
    for (round_id, agent_id), vote in votes.items():
        decision = decisions.get(round_id)
        if decision is None or decision.decided_at is None or vote["choice"] != decision.choice:
            continue
        if counted(vote, rounds[(round_id,)]["options"]):
            tallied[agent_id, decision.decided_at.date()]["agreed"] += 1
    return {key: _score(counts) for key, counts in tallied.items()}


def _score(counts: Counter[str]) -> Row:
    completed, failed, agreed = counts["completed"], counts["failed"], counts["agreed"]
    points = POINTS_COMPLETED * completed + POINTS_FAILED * failed + POINTS_AGREED * agreed
    return {"completed": completed, "failed": failed, "agreed": agreed, "points": points}
