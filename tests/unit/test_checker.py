"""The checker's judgement, sampling and memory, without servers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.cache import Period, agent_tag, leaderboard_key, round_key, round_tag, task_key, user_tasks_key
from streams.checker.judge import Answer, Outcome, answer_of, judge, same
from streams.checker.monotonic import Monotonic
from streams.checker.rows import Part, Reading
from streams.checker.sampling import Sampler
from streams.checker.subjects import Kind, Subject, subjects_of
from streams.checker.tally import Report, percent

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
FRESH, STALE, UNCLEAR = Outcome.CONSISTENT, Outcome.STALE, Outcome.INCONCLUSIVE


def row(second: int, **fields: Any) -> dict[str, Any]:
    return {"updated_at": (START + timedelta(seconds=second)).isoformat(), **fields}


def part(version: int, second: int, **fields: Any) -> Part:
    return Part({"updated_at": START + timedelta(seconds=second), **fields}, version)


def reading(snapshot: int = 0, *, has_more: bool = False, whole: object = None, **parts: Part) -> Reading:
    return Reading(parts, has_more, whole, snapshot)


class TestASingleRow:
    """A task: one row, with an instant that never goes back."""

    before = reading(a=part(1, 1, status="assigned"), whole=1)
    after = reading(a=part(2, 2, status="processing"), whole=2)

    @pytest.mark.parametrize(
        ("answered", "later", "outcome"),
        [
            (row(1, status="assigned"), before, FRESH),  # nothing changed
            (row(1, status="assigned"), after, FRESH),  # changed since; as it was announced is new enough
            (row(2, status="processing"), after, FRESH),
            (row(0, status="pending"), before, STALE),
            (row(0, status="pending"), after, STALE),  # older than announced by its own clock
            (row(1, status="paused"), before, STALE),  # the row is still the same: it was never so since
            (row(1, status="paused"), after, UNCLEAR),  # between the two it may have been
            (row(3, status="completed"), after, FRESH),  # newer than what we have read
        ],
    )
    def test_is_judged_by_what_is_possible(
        self, answered: dict[str, Any], later: Reading, outcome: Outcome
    ) -> None:
        assert judge(Kind.TASK, Answer({"a": answered}), self.before, [later]).outcome is outcome

    def test_what_was_stored_must_be_found(self) -> None:
        assert judge(Kind.TASK, Answer({}), self.before, [self.before]).outcome is STALE
        assert judge(Kind.TASK, Answer({}), reading(whole=()), [reading(whole=())]).outcome is FRESH

    def test_the_field_is_named(self) -> None:
        verdict = judge(Kind.TASK, Answer({"a": row(1, status="paused")}), self.before, [self.before])
        assert verdict.detail == "a: status is paused, must be assigned or newer"


class TestAList:
    """The first page of an agent's tasks, the newest first."""

    @staticmethod
    def listed(name: str, version: int, second: int = 0) -> Part:
        return part(version, second, id=name, created_at=START + timedelta(seconds=second))

    @staticmethod
    def shown(name: str, second: int = 0) -> dict[str, Any]:
        return row(second, id=name, created_at=(START + timedelta(seconds=second)).isoformat())

    def test_a_row_that_is_missing_though_it_stayed(self) -> None:
        then = reading(b=self.listed("b", 2, 2), a=self.listed("a", 1, 1))
        answer = Answer({"a": self.shown("a", 1)})
        assert judge(Kind.AGENT_TASKS, answer, then, [then]).outcome is STALE
        gone = reading(a=self.listed("a", 1, 1))
        assert judge(Kind.AGENT_TASKS, answer, then, [gone]).outcome is FRESH

    def test_a_row_that_had_left_before(self) -> None:
        then = reading(snapshot=100, a=self.listed("a", 1, 1))
        answer = Answer({"b": self.shown("b", 2), "a": self.shown("a", 1)})
        assert judge(Kind.AGENT_TASKS, answer, then, [then], {"b": 99}).outcome is STALE
        assert judge(Kind.AGENT_TASKS, answer, then, [then], {"b": 101}).outcome is UNCLEAR
        assert judge(Kind.AGENT_TASKS, answer, then, [then], {}).outcome is UNCLEAR

    def test_transaction_numbers_go_round(self) -> None:
        then = reading(snapshot=10, a=self.listed("a", 1, 1))
        answer = Answer({"b": self.shown("b", 2), "a": self.shown("a", 1)})
        assert judge(Kind.AGENT_TASKS, answer, then, [then], {"b": 2**32 - 5}).outcome is STALE

    def test_a_mixture_of_what_was_read_is_new_enough(self) -> None:
        then = Reading({"b": part(1, 1, id="b"), "a": part(2, 1, id="a")})
        now = Reading({"b": part(3, 3, id="b"), "a": part(4, 2, id="a")})
        answer = Answer({"b": row(1, id="b"), "a": row(2, id="a")})
        assert judge(Kind.AGENT_TASKS, answer, then, [now]).outcome is FRESH

    def test_a_page_that_ends_early_is_compared_as_far_as_it_goes(self) -> None:
        then = reading(b=self.listed("b", 2, 2), a=self.listed("a", 1, 1))
        assert judge(Kind.AGENT_TASKS, Answer({"b": self.shown("b", 2)}, True), then, [then]).outcome is FRESH


class TestALeaderboard:
    line = Part({"agent_id": "a", "rank": 1, "points": 30, "name": "scout"}, 1)

    def test_others_points_may_change_a_rank(self) -> None:
        then, now = Reading({"a": self.line}, whole=1), Reading({"a": self.line}, whole=2)
        answer = Answer({"a": {"agent_id": "a", "rank": 2, "points": 30, "name": "scout"}})
        assert judge(Kind.LEADERBOARD, answer, then, [now]).outcome is FRESH
        assert judge(Kind.LEADERBOARD, answer, then, [then]).outcome is STALE  # nobody's points have changed

    def test_points_of_before(self) -> None:
        then, now = Reading({"a": self.line}, whole=1), Reading({"a": self.line}, whole=2)
        answer = Answer({"a": {"agent_id": "a", "rank": 1, "points": 20, "name": "scout"}})
        assert judge(Kind.LEADERBOARD, answer, then, [now]).outcome is STALE


def test_values_of_postgresql_and_of_json() -> None:
    agent = uuid4()
    assert same(START, "2026-11-24T12:00:00Z")
    assert same(UUID(str(agent)), str(agent))
    assert same(Decimal("2.500000"), 2.5)
    assert same({"x": [1, None]}, {"x": [1.0, None]})
    assert not same(True, 1)
    assert not same(None, 0)
    assert not same({"x": 1}, {"x": 1, "y": 2})


def test_rounds_are_taken_apart() -> None:
    body = {"id": "r", "quorum": 2, "tallies": [{"choice": "yes", "weight": 1, "votes": 1}]}
    answer = answer_of(Kind.ROUND, body)
    assert list(answer.parts) == ["round", "tally of yes"]


def test_what_an_invalidation_concerns() -> None:
    entity = uuid4()
    keys = [task_key(entity), round_key(entity), user_tasks_key(entity), "s:secret", "ag:nobody"]
    keys += [leaderboard_key(Period.DAILY, START.date()), leaderboard_key(Period.ALL_TIME)]
    found = list(subjects_of(keys, [agent_tag(entity), round_tag(entity), "elsewhere", "agents"]))
    assert [subject.path for subject in found] == [
        f"/v1/tasks/{entity}",
        f"/v1/rounds/{entity}",
        f"/v1/users/{entity}/tasks",
        "/v1/leaderboards/daily",
        "/v1/leaderboards/all_time",
        f"/v1/agents/{entity}/tasks",
        f"/v1/rounds/{entity}/votes",
        "/v1/agents",
    ]
    assert len(list(subjects_of([], ["leaderboards"]))) == len(Period)


def test_a_sample_is_bounded_uniform_and_prefers_what_caches_hold() -> None:
    sampler = Sampler(burst=8, rng=Random(1))
    many = [Subject(Kind.TASK, str(number)) for number in range(100)]
    drawn: Counter[Subject] = Counter()
    for _ in range(2000):
        for subject in many:
            sampler.hear(subject)
        took = sampler.draw(100)
        assert len(took) == 8
        drawn.update(took)
    assert sampler.heard == {Kind.TASK: 200_000}
    assert min(drawn.values()) > 100  # 160 on average
    held = many[7]
    sampler.note_read(held, 0.0)
    first = 0
    for _ in range(300):
        for subject in many:
            sampler.hear(subject)
        first += sampler.draw(1) == [held]
    assert 150 < first < 250  # two of three; a third goes to new ones


def test_kinds_take_turns() -> None:
    sampler = Sampler()
    drawn: Counter[Kind] = Counter()
    for _ in range(80):
        for kind in Kind:
            for number in range(10 if kind is Kind.TASK else 1):
                sampler.hear(Subject(kind, str(number)))
        drawn.update(subject.kind for subject in sampler.draw(1))
    assert set(drawn.values()) == {10}


def test_answers_that_go_back_in_time() -> None:
    subject, memory = Subject(Kind.TASK, "a"), Monotonic()
    memory.saw(subject, Answer({"a": row(1)}), 0.0, 1.0)
    memory.saw(subject, Answer({"a": row(3)}), 2.0, 3.0)
    memory.saw(subject, Answer({"a": row(2)}), 2.5, 3.5)  # asked before the newer one had come
    assert (memory.compared, memory.backwards) == (1, 0)
    memory.saw(subject, Answer({"a": row(2)}), 4.0, 5.0)
    assert (memory.compared, memory.backwards) == (2, 1)
    assert memory.examples[0].startswith("/v1/tasks/a a: ")


def test_a_report_needs_verdicts_and_rounds_nothing_up() -> None:
    report = Report((0.1, 1.0))
    assert not report.ok(0.0)
    for outcome, count in ((FRESH, 999), (STALE, 1)):
        for _ in range(count):
            report.counts.setdefault((Kind.TASK, 1.0), type(report.total(1.0))()).add(outcome, held=True)
    assert report.total(1.0).share == 0.999
    assert report.ok(0.999)
    assert not report.ok(1.0)
    assert percent(0.99999) == "99.99 %"
    assert percent(1.0) == "100 %"
    assert percent(None) == "-"
