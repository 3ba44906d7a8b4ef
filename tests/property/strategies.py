"""Random events about few entities in few seconds: collisions and ties are the rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from schemas.agents import AgentStatus
from schemas.ids import derive_id
from tests.making import START, make

LAST_MONTH = START.replace(day=1) - timedelta(days=1)
TASKS = [derive_id(START, "1"), derive_id(START, "2"), derive_id(LAST_MONTH, "3")]
ROUNDS = [derive_id(START, "4"), derive_id(LAST_MONTH, "5")]
AGENTS = [UUID(int=n) for n in range(1, 4)]
USERS = [UUID(int=n) for n in range(101, 103)]

seconds = st.integers(0, 6)
ids = st.integers(0, 10**6).map(str)
choices = st.sampled_from(["a", "b", "c", "elsewhere"])


def _events(type_: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(make, st.just(type_), seconds, id=ids, source=st.sampled_from(["s", "t"]), **fields)


def _maybe(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


def tasks_of(
    tasks: Sequence[UUID], agents: Sequence[UUID], users: Sequence[UUID] = USERS
) -> st.SearchStrategy[Any]:
    task_id, agent_id = st.sampled_from(tasks), st.sampled_from(agents)
    objects = st.sampled_from([{}, {"a": 1}, {"b": "ü", "c": [1.5, None]}])
    errors = st.sampled_from([{"code": "c1", "message": ""}, {"code": "c2", "message": "m"}])
    return st.one_of(
        _events(
            "task.created",
            task_id=task_id,
            kind=st.sampled_from(["k1", "k2"]),
            agent_id=_maybe(agents),
            user_id=_maybe(users),
            priority=st.integers(0, 9),
            payload=objects,
        ),
        _events("task.assigned", task_id=task_id, agent_id=agent_id),
        _events("task.started", task_id=task_id, agent_id=_maybe(agents)),
        _events(
            "task.progressed", task_id=task_id, progress=st.sampled_from([0.0, 0.5, 1.0]), note=_maybe(["n"])
        ),
        _events("task.completed", task_id=task_id, result=objects),
        _events("task.failed", task_id=task_id, error=errors, retryable=st.booleans()),
        _events("task.cancelled", task_id=task_id, reason=_maybe(["r"])),
    )


def votes_of(rounds: Sequence[UUID], agents: Sequence[UUID]) -> st.SearchStrategy[Any]:
    round_id, agent_id = st.sampled_from(rounds), st.sampled_from(agents)
    cast = _events(
        "vote.cast",
        round_id=round_id,
        agent_id=agent_id,
        choice=choices,
        weight=st.sampled_from(["1", "0.1", "2.5"]),
        confidence=_maybe([0.25]),
        rationale=_maybe(["because"]),
    )
    return st.one_of(
        _events(
            "round.opened",
            round_id=round_id,
            options=st.sampled_from([("a", "b"), ("b", "a", "c"), ("b", "c")]),
            quorum=st.sampled_from(["1", "2.5", "4"]),
            closes_at=_maybe([START + timedelta(seconds=n) for n in (2, 5)]),
        ),
        cast,
        cast,
        cast,
        _events("vote.retracted", round_id=round_id, agent_id=agent_id),
        _events("round.closed", round_id=round_id),
    )


def agents_of(agents: Sequence[UUID]) -> st.SearchStrategy[Any]:
    agent_id = st.sampled_from(agents)
    return st.one_of(
        _events(
            "agent.registered",
            agent_id=agent_id,
            name=st.sampled_from(["Ann", "Bob"]),
            capabilities=st.sampled_from([(), ("x", 'y "z", {}')]),
            is_active=st.booleans(),
        ),
        _events("agent.status_changed", agent_id=agent_id, status=st.sampled_from(AgentStatus)),
    )


task_events = tasks_of(TASKS, AGENTS)
vote_events = votes_of(ROUNDS, AGENTS)
agent_events = agents_of(AGENTS)


def distinct(
    events: st.SearchStrategy[Any], *, min_size: int = 1, max_size: int
) -> st.SearchStrategy[list[Any]]:
    """Events with ids of their own."""
    return st.lists(events, min_size=min_size, max_size=max_size, unique_by=lambda event: event.id)
