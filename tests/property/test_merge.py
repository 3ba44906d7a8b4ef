"""Merging gives one result over all orders, groupings and repeats, and it is the model's."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import agents, task_merge, vote_merge
from handlers.merging import earliest, latest
from tests.making import START, make
from tests.property import model
from tests.property.strategies import agent_events, distinct, task_events, vote_events

TASK = UUID("0195d3f0-0000-7000-8000-000000000001")
ANN, BOB = UUID(int=1), UUID(int=2)


def shuffled(events: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[list[Any], list[Any]]]:
    """Some events, and the same ones in another order with some of them repeated."""
    return distinct(events, max_size=10).flatmap(
        lambda chosen: st.tuples(
            st.just(chosen),
            st.lists(st.sampled_from(chosen), max_size=8).flatmap(
                lambda more: st.permutations(chosen + more)
            ),
        )
    )


def task_columns(task: task_merge.Task) -> dict[str, Any]:
    created, outcome, progress = task.created, task.outcome, task.progress
    return {
        "status": task.status_name,
        "kind": created.kind if created else None,
        "user_id": created.user_id if created else None,
        "priority": created.priority if created else 0,
        "payload": created.payload if created else None,
        "agent_id": task.assignee.agent_id if task.assignee else None,
        "progress": progress.progress if progress else None,
        "note": progress.note if progress else None,
        "result": outcome.result if outcome else None,
        "error": outcome.error if outcome else None,
        "retryable": outcome.retryable if outcome else None,
        "reason": outcome.reason if outcome else None,
        "finished_at": outcome.finished_at if outcome else None,
        "assigned_at": task.assigned_at,
        "started_at": task.started_at,
        "updated_at": task.updated_at,
    }


@given(shuffled(task_events))
def test_tasks_merge_to_the_model_in_any_order(streams: tuple[list[Any], list[Any]]) -> None:
    once, again = streams
    assert task_merge.fold(once) == task_merge.fold(again)
    merged = {task_id: task_columns(task) for task_id, task in task_merge.fold(again).items()}
    assert merged == model.task_rows(once)


@given(shuffled(agent_events))
def test_agents_merge_to_the_model_in_any_order(streams: tuple[list[Any], list[Any]]) -> None:
    once, again = streams
    assert agents.fold(once) == agents.fold(again)
    rows = model.agent_rows(once)
    for agent_id, agent in agents.fold(again).items():
        assert agent.status.status == rows[agent_id]["status"]
        assert (agent.first_at, agent.last_at) == (rows[agent_id]["created_at"], rows[agent_id]["updated_at"])
        name = agent.registration.name if agent.registration else None
        assert name == rows[agent_id]["name"]


@given(shuffled(vote_events), st.data())
def test_rounds_merge_to_the_model_however_they_are_split(
    streams: tuple[list[Any], list[Any]], data: st.DataObject
) -> None:
    once, again = streams
    cut = data.draw(st.integers(0, len(again)))
    polls = _polls(again[:cut], {})
    polls = _polls(again[cut:], polls)
    rows, votes, sums = model.round_rows(once), model.vote_rows(once), model.tallies(once)
    for round_id, poll in polls.items():
        options = rows[round_id]["options"]
        assert poll.after.options == (tuple(options) if options else None)
        assert {agent: vote.late for agent, vote in poll.votes_after.items()} == {
            agent: vote["late"] for (owner, agent), vote in votes.items() if owner == round_id
        }
        tally = {choice: tuple(count) for choice, count in poll.tally_after.items() if count.votes}
        assert tally == {choice: sums_ for (owner, choice), sums_ in sums.items() if owner == round_id}


def _polls(events: list[Any], earlier: dict[UUID, vote_merge.Poll]) -> dict[UUID, vote_merge.Poll]:
    polls = dict(earlier)
    for round_id, said in vote_merge.fold(events).items():
        known = earlier.get(round_id)
        before = known.after if known else vote_merge.UNKNOWN
        stored = known.votes_after if known else {}
        tally = known.tally_after if known else {}
        polls[round_id] = vote_merge.take_poll(said, before, stored, tally)
    return polls


def test_a_whole_life_in_all_its_orders() -> None:
    life = [
        make("task.created", 0, task_id=TASK, kind="k"),
        make("task.assigned", 1, task_id=TASK, agent_id=ANN),
        make("task.failed", 3, task_id=TASK, error={"code": "c", "message": "m"}, retryable=True),
        make("task.assigned", 4, task_id=TASK, agent_id=BOB),
        make("task.completed", 6, task_id=TASK, result={"ok": True}),
    ]
    expected = model.task_rows(life)[TASK]
    for arrangement in permutations([*life, life[2]]):
        assert task_columns(task_merge.fold(arrangement)[TASK]) == expected
    assert expected["status"] == "completed"
    assert expected["error"] is None
    assert expected["agent_id"] == BOB


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("task.created", "s", "z"), ("task.assigned", "s", "a")),  # rank before source and id
        (("task.assigned", "a", "z"), ("task.assigned", "b", "a")),  # source before id
        (("task.assigned", "s", "a"), ("task.assigned", "s", "é")),  # bytes, not collation
    ],
)
def test_ties_of_time_go_by_rank_source_and_id(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    events = [
        make(type_, 0, id=id_, source=source, task_id=TASK, agent_id=agent, **extra)
        for (type_, source, id_), agent in ((first, ANN), (second, BOB))
        for extra in [{"kind": "k"} if type_ == "task.created" else {}]
    ]
    for arrangement in permutations(events):
        task = task_merge.fold(arrangement)[TASK]
        assert task.assignee is not None
        assert task.assignee.agent_id == BOB


def test_unknown_instants_give_way() -> None:
    later = START + timedelta(1)
    assert latest(None, START) == latest(START, None) == START
    assert latest(START, later) == latest(later, START) == later
    assert earliest(None, START) == earliest(START, None) == START
    assert earliest(START, later) == earliest(later, START) == START
