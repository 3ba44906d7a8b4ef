"""Events share what is the same for all of them, and stay as they were decoded."""

from __future__ import annotations

import pytest
from asyncpg.pgproto import pgproto
from pydantic import TypeAdapter

from schemas.tasks import TaskEvent
from streams.facts import facts_of
from streams.lean import make_lean

EVENTS = TypeAdapter(TaskEvent)  # type: ignore[var-annotated]
HEAD = '"specversion":"1.0","source":"test","type":"task.completed","time":"2026-11-01T00:00:00Z"'
TASK = '"task_id":"019a3c1e-0000-7000-8000-000000000001"'


def decoded(name: str, data: str = TASK, more: str = "") -> TaskEvent:
    event: TaskEvent = EVENTS.validate_json(f'{{{HEAD},"id":"{name}"{more},"data":{{{data}}}}}')
    make_lean(event)
    return event


def test_the_same_fields_are_one_set() -> None:
    one, other = decoded("1"), decoded("2")
    assert one.model_fields_set is other.model_fields_set
    assert one.data.model_fields_set is other.data.model_fields_set


@pytest.mark.parametrize(
    ("data", "more"),
    [(f'{TASK},"result":{{}}', ""), (TASK, ',"tracestate":"a=b"'), (f"{TASK},{TASK}", "")],
    ids=["data", "envelope", "twice"],
)
def test_other_fields_are_another_set_also_in_turns(data: str, more: str) -> None:
    for turn in range(3):
        plain, other = decoded(f"a{turn}"), decoded(f"b{turn}", data, more)
        assert plain.data.model_dump_json(exclude_unset=True) == f"{{{TASK}}}"
        expected = EVENTS.validate_json(f'{{{HEAD},"id":"b"{more},"data":{{{data}}}}}')
        assert other.model_fields_set == expected.model_fields_set
        assert other.data.model_fields_set == expected.data.model_fields_set


def test_as_many_fields_but_others_are_not_mixed_up() -> None:
    first = EVENTS.validate_json(f'{{{HEAD},"id":"1","traceparent":"x","data":{{{TASK}}}}}')
    second = EVENTS.validate_json(f'{{{HEAD},"id":"2","tracestate":"a=b","data":{{{TASK}}}}}')
    for event in (first, second, first):
        before = set(event.model_fields_set)
        make_lean(event)
        assert event.model_fields_set == before


def test_uuids_are_equal_ones_of_asyncpg() -> None:
    agent = ',"agent_id":"019A3C1E-0000-7000-8000-0000000000FF"'
    event = EVENTS.validate_json(f'{{{HEAD},"id":"1","data":{{{TASK}}}}}')
    assigned = EVENTS.validate_json(
        f'{{{HEAD},"id":"1","data":{{{TASK}{agent}}}}}'.replace("completed", "assigned")
    )
    started = EVENTS.validate_json(f'{{{HEAD},"id":"1","data":{{{TASK}}}}}'.replace("completed", "started"))
    for lean, fields in ((event, {"task_id"}), (assigned, {"task_id", "agent_id"}), (started, {"task_id"})):
        plain = lean.model_copy(deep=True)
        make_lean(lean)
        assert {name for name, value in lean.data if type(value) is pgproto.UUID} == fields
        assert lean == plain
        assert {lean.data.task_id: 1}[plain.data.task_id] == 1
        assert [str(value) for _, value in lean.data] == [str(value) for _, value in plain.data]
        assert lean.model_dump_json() == plain.model_dump_json()
        assert facts_of(lean) == facts_of(plain)
