"""Schema and service agree on every payload, but for the differences that the document lists."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.asyncapi.rules import beyond_the_promise, beyond_the_schemas
from streams.decode import Decoder, Window
from tests.contract.damage import UUID7, damaged, every_corner, example, nested
from tests.contract.differences import explain_refusal, promised
from tests.contract.judges import (
    LIMITS,
    MESSAGES,
    NOW,
    SUBSCRIPTIONS,
    delivery_of,
    schema_accepts,
    service_says,
)

EXAMPLES = int(os.environ.get("STREAMS_TEST_EXAMPLES", "200"))


@pytest.mark.parametrize("queue", SUBSCRIPTIONS)
def test_schema_and_service_agree_on_every_corner_of_every_field(queue: str) -> None:
    for type_ in SUBSCRIPTIONS[queue].types:
        for event in every_corner(type_):
            check(queue, event)


@pytest.mark.parametrize("queue", SUBSCRIPTIONS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_schema_and_service_agree_on_events_damaged_at_random(queue: str, data: st.DataObject) -> None:
    check(queue, data.draw(damaged(list(SUBSCRIPTIONS[queue].types))))


def check(queue: str, event: Any) -> None:
    """Both accept the event, or both refuse it, or the document names why not."""
    text = json.dumps(event)
    by_schema = schema_accepts(text, SUBSCRIPTIONS[queue].types)
    (item,) = service_says(text.encode(), queue)
    if by_schema and item.error is not None:
        assert explain_refusal(event), f"only the service refuses {text[:2000]}: {item.error}"
    elif not by_schema and item.error is None:
        assert promised(event) != event, f"only the schema refuses {text[:2000]}"
        assert schema_accepts(json.dumps(promised(event)), SUBSCRIPTIONS[queue].types), text[:2000]


def an_event(type_: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = deepcopy(MESSAGES[type_]["examples"][0]["payload"])
    for name, value in changes.items():
        (event if name in event else event["data"])[name] = value
    return event


def test_an_event_names_its_type_even_where_there_is_only_one() -> None:
    event = example("cache.invalidated")
    del event["type"]
    invalidated = SUBSCRIPTIONS["invalidations.apply_invalidations"].types["cache.invalidated"]
    window = Window(timedelta(days=365), timedelta(0))
    alone = Decoder({"cache.invalidated": invalidated}, window, max_bytes=10_000, max_events=1)
    (item,) = alone.decode(delivery_of(json.dumps(event).encode()), NOW)
    assert item.error is not None
    assert item.error.field == "type"


REFUSED = {
    "window": ("tasks.record_tasks", an_event("task.created", time="2024-12-31T00:00:00Z")),
    "bytes": ("tasks.record_tasks", an_event("task.created", id="ü" * 200)),
    "decimals": ("votes.record_votes", an_event("vote.cast", weight=0.1234567)),
    "integers": ("tasks.record_tasks", an_event("task.created", priority=3.0)),
    "depth": ("tasks.record_tasks", an_event("task.created", payload=nested(33))),
    "big-integers": ("tasks.record_tasks", an_event("task.created", payload={"n": 2**63})),
    "numbers": ("tasks.record_tasks", an_event("task.created", payload={"n": "HUGE"})),
    "years": ("votes.record_votes", an_event("round.opened", closes_at="9999-12-31T23:00:00-02:00")),
    "unicode": ("tasks.record_tasks", an_event("task.created", kind="\ud800")),
    "size": (
        "tasks.record_tasks",
        an_event("task.created", payload={"text": "x" * LIMITS.max_message_bytes}),
    ),
}
TOLERATED = {
    "uuids": ("tasks.record_tasks", an_event("task.created", task_id=UUID7.replace("-", ""))),
    "instants": ("tasks.record_tasks", an_event("task.created", time="2026-01-15 09:30Z")),
    "traces": ("tasks.record_tasks", an_event("task.created") | {"traceparent": 5}),
    "decimal-texts": ("votes.record_votes", an_event("vote.cast", weight="1e0")),
}


@pytest.mark.parametrize("name", beyond_the_schemas(LIMITS))
def test_each_rule_beyond_the_schemas_is_one(name: str) -> None:
    queue, event = REFUSED[name]
    text = json.dumps(event).replace('"HUGE"', "1e400")
    assert schema_accepts(text, SUBSCRIPTIONS[queue].types)
    (item,) = service_says(text.encode(), queue)
    assert item.error is not None


@pytest.mark.parametrize("name", beyond_the_promise())
def test_each_tolerated_spelling_is_one(name: str) -> None:
    queue, event = TOLERATED[name]
    assert not schema_accepts(json.dumps(event), SUBSCRIPTIONS[queue].types)
    (item,) = service_says(json.dumps(event).encode(), queue)
    assert item.error is None
