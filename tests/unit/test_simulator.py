"""The simulated agents, the faults, and the traffic made of both."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.agents import AgentEvent
from schemas.envelope import event_types
from schemas.errors import Reason
from schemas.fields import dated
from schemas.tasks import TaskEvent
from schemas.votes import VoteEvent
from streams.demo.faults import plan_faults
from streams.demo.simulator import AGENTS, SimEvent, simulate, uuid7
from streams.demo.traffic import Message, Mode, Planned, attributes, disturb, pack

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
FAMILIES: dict[str, TypeAdapter[Any]] = {
    "tasks": TypeAdapter(TaskEvent),
    "votes": TypeAdapter(VoteEvent),
    "agents": TypeAdapter(AgentEvent),
}


def events(count: int = 3000, seed: int = 7, run: str = "r1") -> list[SimEvent]:
    return simulate(run=run, seed=seed, start=START, rate=2000, events=count)


def traffic(count: int = 3000, seed: int = 7) -> tuple[list[Planned], list[Message]]:
    rng = Random(seed)
    faults = plan_faults(run="r1", start=START, rate=2000, seed=seed)
    stream = disturb(events(count, seed), faults, rng)
    return stream, list(pack(stream, rng))


def test_the_same_seed_tells_the_same_story() -> None:
    assert events() == events()
    assert events(seed=8) != events(seed=7)


def test_runs_share_no_id_and_no_source() -> None:
    one, other = events(run="one"), events(run="other")
    assert not {e.id for e in one} & {e.id for e in other}
    assert not {e.source for e in one} & {e.source for e in other}


@pytest.mark.parametrize("count", [100, 1500, 20_000])
def test_there_are_as_many_events_as_asked_for_and_few_more(count: int) -> None:
    assert count <= len(events(count)) < count * 1.3


def test_every_event_keeps_the_contract_and_ids_are_unique() -> None:
    story = events()
    assert len({(e.source, e.id) for e in story}) == len(story)
    for event in story:
        FAMILIES[event.exchange].validate_json(json.dumps(attributes(event)))


def test_every_type_of_the_contract_occurs_and_all_seven_agents_speak() -> None:
    story = events()
    types = {name for family in (TaskEvent, VoteEvent, AgentEvent) for name in event_types(family)}
    assert {e.type for e in story} == types
    assert {e.source.rpartition(":")[2] for e in story} >= set(AGENTS)


def test_lives_are_whole() -> None:
    lives: dict[str, list[str]] = {}
    for event in events():
        if event.exchange == "tasks":
            lives.setdefault(event.data["task_id"], []).append(event.type)
    ends = Counter(life[-1] for life in lives.values())
    assert all(life[0] == "task.created" for life in lives.values())
    assert set(ends) == {"task.completed", "task.failed", "task.cancelled"}
    assert any(life.count("task.started") > 1 for life in lives.values()), "a task is retried"
    assert any(life.count("task.assigned") > 1 for life in lives.values()), "a task changes hands"


def test_times_follow_the_rate_and_some_are_shared() -> None:
    times = [datetime.fromisoformat(e.time) for e in events()]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(timedelta(seconds=len(times) / 2000), rel=0.02)
    assert 10 < len(times) - len(set(times)) < 200


def test_some_votes_are_late_changed_and_retracted() -> None:
    closed: set[str] = set()
    voted: Counter[tuple[str, str]] = Counter()
    late = 0
    for event in events():
        if event.type == "round.closed":
            closed.add(event.data["round_id"])
        elif event.type == "vote.cast":
            late += event.data["round_id"] in closed
            voted[event.data["round_id"], event.data["agent_id"]] += 1
    assert late > 3
    assert sum(count > 1 for count in voted.values()) > 10


def test_a_uuid7_holds_its_instant() -> None:
    made = uuid7(START + timedelta(milliseconds=123), Random(1))
    assert made.version == 7
    assert made.variant == UUID(int=made.int).variant == "specified in RFC 4122"
    assert dated(made) == START + timedelta(milliseconds=123)


def test_the_stream_holds_every_event_repeats_some_and_disturbs_the_order() -> None:
    story, (stream, _) = events(), traffic()
    first = [p.event for p in stream if p.reason is None and not p.repeat]
    repeats = sum(p.repeat for p in stream)
    assert sorted(e.id for e in first) == sorted(e.id for e in story)
    assert first != story
    assert 0.01 < repeats / len(story) < 0.025


def test_messages_hold_the_stream_in_all_three_modes() -> None:
    stream, messages = traffic()
    assert Counter(p.event.id for m in messages for p in m.events) == Counter(p.event.id for p in stream)
    share = Counter(m.mode for m in messages for _ in m.events)
    assert share[Mode.STRUCTURED] > share[Mode.BATCH] > share[Mode.BINARY] > 100
    assert all(m.headers["traceparent"].startswith("00-") for m in messages)
    assert len({m.exchange for m in messages}) == 3


def test_an_array_holds_events_of_one_exchange() -> None:
    for message in traffic()[1]:
        if message.mode is Mode.BATCH:
            assert {p.event.exchange for p in message.events} == {message.exchange}
            assert [e["id"] for e in json.loads(message.body)] == [p.event.id for p in message.events]


def test_faults_are_of_four_kinds_and_recognisable_in_what_is_sent() -> None:
    bad = [(m, p) for m in traffic()[1] for p in m.events if p.reason is not None]
    assert Counter(p.reason for _, p in bad).keys() == {
        Reason.UNKNOWN_TYPE,
        Reason.INVALID_EVENT,
        Reason.OUTSIDE_WINDOW,
        Reason.UNDECODABLE,
    }
    assert len(bad) == 20
    for message, planned in bad:
        sent = message.body + repr((message.headers, message.message_id)).encode()
        assert planned.event.id.encode() in sent


def test_invalid_faults_break_the_contract_and_far_dates_do_not() -> None:
    for fault in plan_faults(run="r1", start=START, rate=2000, seed=1):
        family = FAMILIES[fault.event.exchange]
        body = json.dumps(attributes(fault.event))
        if fault.reason is Reason.OUTSIDE_WINDOW:
            family.validate_json(body)  # only the calendar speaks against it
        elif fault.raw is None:
            with pytest.raises(ValidationError):
                family.validate_json(body)
