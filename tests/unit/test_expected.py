"""The independent fold, and that a comparison finds every fault that is planted."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.errors import Reason
from streams.demo import expected as fold
from streams.demo.compare import (
    compare_announcements,
    compare_decisions,
    compare_history,
    compare_letters,
    compare_reputation,
    compare_table,
    same,
)
from streams.demo.expected import Decision, Table
from streams.demo.ledger import Key, Ledger, Sent
from streams.demo.readback import served_differences
from streams.demo.simulator import simulate, uuid7
from streams.demo.stored import Recorded, Rows
from streams.demo.verify import Expected

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
TASK = str(uuid7(START, Random(1)))
ROUND = str(uuid7(START, Random(2)))
ANN, BOB, CY = (str(UUID(int=n)) for n in (1, 2, 3))


def sent(type_: str, second: float, *, id: str = "", source: str = "s", **data: Any) -> Sent:  # noqa: A002
    at = (START + timedelta(seconds=second)).isoformat()
    return Sent(id or f"{type_}@{second}", source, type_, at, data, "structured", 0.0, 0.0)


def task(*events: Sent) -> dict[str, Any]:
    forwards, backwards = fold.fold_tasks(events), fold.fold_tasks(reversed(events))
    assert forwards == backwards, "the order of arrival must not matter"
    return forwards[UUID(TASK),]


def story(count: int = 1500) -> list[Sent]:
    events = simulate(run="r", seed=3, start=START, rate=1000, events=count)
    return [Sent(e.id, e.source, e.type, e.time, e.data, "structured", 0.0, 0.0) for e in events]


def test_each_column_takes_the_greatest_event_that_speaks_of_it() -> None:
    row = task(
        sent("task.created", 0, task_id=TASK, kind="k", priority=3, payload={"a": 1}),
        sent("task.assigned", 1, task_id=TASK, agent_id=ANN),
        sent("task.started", 2, task_id=TASK),
        sent("task.progressed", 3, task_id=TASK, progress=0.5, note="half"),
        sent("task.completed", 4, task_id=TASK, result={"ok": True}),
    )
    assert (row["status"], row["kind"], row["priority"], row["payload"]) == ("completed", "k", 3, {"a": 1})
    assert (row["agent_id"], row["progress"], row["note"]) == (UUID(ANN), 0.5, "half")
    assert row["result"] == {"ok": True}
    assert (row["error"], row["reason"], row["retryable"]) == (None, None, None)
    assert row["finished_at"] == START + timedelta(seconds=4)


def test_ties_of_time_go_by_rank_then_source_then_id() -> None:
    created = sent("task.created", 0, task_id=TASK, kind="k")
    assert task(created, sent("task.started", 0, task_id=TASK))["status"] == "processing"
    by_source = task(
        sent("task.assigned", 1, source="a", id="9", task_id=TASK, agent_id=ANN),
        sent("task.assigned", 1, source="b", id="1", task_id=TASK, agent_id=BOB),
    )
    assert by_source["agent_id"] == UUID(BOB)
    by_id = task(
        sent("task.assigned", 1, id="2", task_id=TASK, agent_id=ANN),
        sent("task.assigned", 1, id="1", task_id=TASK, agent_id=BOB),
    )
    assert by_id["agent_id"] == UUID(ANN)


def test_the_last_word_of_an_agent_counts_and_late_votes_do_not() -> None:
    events = [
        sent("round.opened", 0, round_id=ROUND, options=["x", "y"], quorum=2),
        sent("vote.cast", 1, round_id=ROUND, agent_id=ANN, choice="x"),
        sent("vote.cast", 2, round_id=ROUND, agent_id=ANN, choice="y", weight=1.5),
        sent("vote.cast", 3, round_id=ROUND, agent_id=BOB, choice="y"),
        sent("vote.retracted", 4, round_id=ROUND, agent_id=BOB),
        sent("round.closed", 5, round_id=ROUND),
        sent("vote.cast", 6, round_id=ROUND, agent_id=CY, choice="x"),
    ]
    rounds = fold.fold_rounds(events)
    votes = fold.fold_votes(events, rounds)
    key = UUID(ROUND)
    assert votes[key, UUID(ANN)]["choice"] == "y"
    assert votes[key, UUID(BOB)]["retracted"]
    assert votes[key, UUID(CY)]["late"]
    assert fold.fold_tallies(votes, rounds) == {(key, "y"): {"weight": Decimal("1.5"), "votes": 1}}


def test_scores_are_earned_on_the_day_of_the_end() -> None:
    tasks = fold.fold_tasks(
        [
            sent("task.assigned", 1, task_id=TASK, agent_id=ANN),
            sent("task.completed", 86_400, task_id=TASK),
        ]
    )
    scores = fold.fold_scores(tasks, {}, {}, {})
    row = {"completed": 1, "failed": 0, "agreed": 0, "points": 10}
    assert scores == {(UUID(ANN), (START + timedelta(days=1)).date()): row}


def rows_of(table: Table) -> Rows:
    return copy.deepcopy(list(table.items()))


TABLES = ("tasks", "rounds", "votes", "tallies", "agents")


@pytest.mark.parametrize("name", TABLES)
def test_equal_tables_agree_and_every_planted_fault_is_found(name: str) -> None:
    table: Table = getattr(Expected.of(story()), name)
    assert compare_table(name, table, rows_of(table)).differences == []
    for plant in (_alter, _lose, _duplicate, _invent):
        stored = rows_of(table)
        plant(stored)
        assert len(compare_table(name, table, stored).differences) == 1, plant.__name__


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_looked_at(name: str) -> None:
    table: Table = getattr(Expected.of(story(300)), name)
    for column in next(iter(table.values())):
        stored = rows_of(table)
        stored[-1][1][column] = "something else"
        assert [d.detail.split()[0] for d in compare_table(name, table, stored).differences] == [column]


def _alter(stored: Rows) -> None:
    column = next(iter(stored[3][1]))
    stored[3][1][column] = "tampered"


def _lose(stored: Rows) -> None:
    del stored[2]


def _duplicate(stored: Rows) -> None:
    stored.append(copy.deepcopy(stored[1]))


def _invent(stored: Rows) -> None:
    stored.append(((uuid4(),), copy.deepcopy(stored[0][1])))


History = list[tuple[Key, Recorded]]


def history_of(events: list[Sent]) -> History:
    entity = {"task": "task_id", "round": "round_id", "vote": "round_id", "agent": "agent_id"}
    return [
        (
            e.key,
            Recorded(
                e.type,
                datetime.fromisoformat(e.time),
                UUID(e.data[entity[e.type.partition(".")[0]]]),
                UUID(int=0),
                dict(e.data),
                START,
            ),
        )
        for e in events
    ]


def test_history_holds_each_good_event_once_and_no_bad_one() -> None:
    events = story(300)
    good = {e.key: e for e in events}
    bad = {e.key: e for e in [sent("task.started", 1, id="bad", task_id=TASK)]}
    stored = history_of(events)
    assert compare_history(good, bad, stored).differences == []
    lost, twice = stored[1:], [*stored, stored[0]]
    refused = stored + history_of(list(bad.values()))
    stranger = stored + history_of([sent("task.started", 1, id="x", task_id=TASK)])
    key, row = stored[5]
    changed = [*stored[:5], (key, replace(row, data=dict.fromkeys(row.data, "other"))), *stored[6:]]
    moved = [*stored[:5], (key, replace(row, time=START)), *stored[6:]]
    for faulty in (lost, twice, refused, stranger, changed, moved):
        assert compare_history(good, bad, faulty).differences


def decided(choice: str = "x", **tally: str) -> Decision:
    return Decision(choice, START + timedelta(seconds=1), {c: Decimal(w) for c, w in tally.items()})


@pytest.mark.parametrize(
    ("decision", "agrees"),
    [
        (decided("x", x="2", y="1"), True),
        (decided("z", x="2", y="1"), False),  # no option
        (decided("x", x="1", y="0.5"), False),  # below the quorum
        (decided("y", x="2", y="1"), False),  # not the most votes
        (None, False),  # undecided although the votes suffice
    ],
)
def test_decisions_are_judged(decision: Decision | None, agrees: bool) -> None:
    key = UUID(ROUND)
    rounds: Table = {(key,): {"options": ["x", "y"], "quorum": Decimal(3)}}
    tallies: Table = {
        (key, "x"): {"weight": Decimal(2), "votes": 2},
        (key, "y"): {"weight": Decimal(1), "votes": 1},
    }
    found = compare_decisions(rounds, tallies, {key: decision} if decision else {})
    assert (found.differences == []) is agrees


@pytest.mark.parametrize(
    ("heard", "agrees"),
    [
        ([("1", "x")], True),
        ([("1", "x"), ("1", "x")], True),  # one event, published again after a crash
        ([("1", "x"), ("2", "x")], False),
        ([("1", "y")], False),
        ([], False),
    ],
)
def test_each_decision_is_announced_once(heard: list[tuple[str, str]], agrees: bool) -> None:
    key = UUID(ROUND)
    events = [
        {"id": id_, "round_id": ROUND, "choice": choice, "tally": {"x": "2.0"}, "votes": 0}
        for id_, choice in heard
    ]
    found = compare_announcements({key: decided(x="2")}, events, {(key,): {}})
    assert (found.differences == []) is agrees


@pytest.mark.parametrize(
    ("letters", "agrees"),
    [
        ({"bad": ["invalid_event"]}, True),
        ({"bad": ["invalid_event", "invalid_event"]}, True),  # a crash may quarantine it again
        ({"bad": ["unknown_type"]}, False),
        ({}, False),
    ],
)
def test_refused_events_are_looked_for_with_their_reason(letters: dict[str, list[str]], agrees: bool) -> None:
    event = Sent("bad", "s", "task.started", "", {}, "structured", 0.0, 0.0, Reason.INVALID_EVENT)
    assert (compare_letters({event.key: event}, letters).differences == []) is agrees


def test_reputation_is_the_sum_of_the_days() -> None:
    agent = UUID(ANN)
    scores: Table = {(agent, START.date()): {"points": 13}, (agent, None): {"points": -5}}
    assert compare_reputation([((agent,), {"reputation_score": 8})], scores).differences == []
    assert compare_reputation([((agent,), {"reputation_score": 13})], scores).differences


def test_what_is_served_is_compared_column_by_column() -> None:
    row = {"status": "failed", "agent_id": UUID(ANN), "started_at": START, "weight": Decimal("1.50")}
    served = {"status": "failed", "agent_id": ANN, "started_at": "2026-11-23T12:00:00Z", "weight": "1.5"}
    assert served_differences(row, served) == []
    for column in row:
        assert [name for name, _ in served_differences(row, {**served, column: None})] == [column]
        without = {name: value for name, value in served.items() if name != column}
        assert [name for name, _ in served_differences(row, without)] == [column]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (Decimal("1.50"), 1.5, True),
        ({"a": [1]}, {"a": [1.0]}, True),
        (True, 1, False),
        (0, None, False),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
    ],
)
def test_sameness(one: object, other: object, equal: bool) -> None:
    assert same(one, other) is equal


def test_a_ledger_reads_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger("run", ["s"])
    ledger.open(tmp_path / "ledger.ndjson")
    events = story(100)
    ledger.record(events)
    ledger.record(events[:3])
    ledger.record([Sent("bad", "s", "x", "", {}, "binary", 1.0, 2.0, Reason.UNKNOWN_TYPE)])
    ledger.record_decided([{"id": "1", "round_id": ROUND, "choice": "x"}])
    ledger.close()
    again = Ledger.load(tmp_path / "ledger.ndjson")
    assert (again.good, again.bad, again.decided) == (ledger.good, ledger.bad, ledger.decided)
    assert (again.repeats, again.watched, again.sources) == (3, True, ["s"])
