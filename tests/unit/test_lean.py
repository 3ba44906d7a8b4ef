"""Events share what is the same for all of them, and stay as they were decoded."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from schemas.tasks import TaskEvent
from streams.lean import share_fields_set

EVENTS = TypeAdapter(TaskEvent)  # type: ignore[var-annotated]
HEAD = '"specversion":"1.0","source":"test","type":"task.completed","time":"2026-11-01T00:00:00Z"'
TASK = '"task_id":"019a3c1e-0000-7000-8000-000000000001"'


def decoded(name: str, data: str = TASK, more: str = "") -> TaskEvent:
    event: TaskEvent = EVENTS.validate_json(f'{{{HEAD},"id":"{name}"{more},"data":{{{data}}}}}')
    share_fields_set(event)
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
        share_fields_set(event)
        assert event.model_fields_set == before
