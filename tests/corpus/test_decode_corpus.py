"""The corpus through the decoder alone: quick, and each case by its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.errors import EventError
from streams.acks import AckTracker
from streams.decode import Decoder, Window
from streams.delivery import Delivery
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS
from tests.corpus.case import CANARY, MAX_BYTES, MAX_EVENTS, Case, Outcome
from tests.corpus.fields import ATTRIBUTES, FIELDS
from tests.corpus.table import cases

WINDOW = Window(timedelta(days=365), timedelta(minutes=5))
TYPES = {each.exchange: each.types | each.publishes for each in load_subscriptions(DEFAULT_HANDLERS)}
DECODERS = {
    exchange: Decoder(types, WINDOW, max_bytes=MAX_BYTES, max_events=MAX_EVENTS)
    for exchange, types in TYPES.items()
}
CASES = cases()


async def _ack(tag: int) -> None: ...


def delivery_of(case: Case) -> Delivery:
    """The case's message as the edge would hand it on."""
    properties = {name: _text(value) for name, value in case.properties.items()}
    timestamp = properties.pop("timestamp", None)
    if isinstance(timestamp, int):
        timestamp = None if timestamp > 10**15 else datetime.fromtimestamp(timestamp, UTC)
    known = {name: properties.pop(name, None) for name in ("message_id", "type", "app_id")}
    headers = properties.pop("headers", {})
    headers = {} if isinstance(headers, str) else headers  # a table that cannot be read
    return Delivery(
        body=case.body, content_type=_text(case.content_type) or "", headers=headers, timestamp=timestamp,
        exchange=case.exchange, routing_key="test", tag=1, acks=AckTracker(_ack), received_ns=0,
        others=lambda: properties, **known,
    )  # fmt: skip


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def matches(outcome: Outcome, reason: str, field: str) -> bool:
    """Whether a refusal is the one that is listed; a field inside the listed one counts as it."""
    return outcome is not None and outcome[0] == reason and (
        field == outcome[1] or (bool(outcome[1]) and field.startswith(outcome[1] + "."))
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_outcome_is_the_listed_one(case: Case) -> None:
    delivery = delivery_of(case)
    items = DECODERS[case.exchange].decode(delivery, datetime.now(UTC))
    assert len(items) == len(case.outcomes) == delivery.open_events
    for item, outcome, event_id in zip(items, case.outcomes, case.ids, strict=True):
        if outcome is None:
            assert item.error is None, str(item.error)
            assert item.event is not None
            assert item.event.id == event_id
            continue
        error = item.error
        assert isinstance(error, EventError)
        assert matches(outcome, error.reason, error.field), f"{error.reason} {error.field!r}: {error}"
        assert len(str(error)) <= 500
        assert str(error).isprintable(), "no line of a log, no header is broken by it"
        assert CANARY not in str(error)
        if case.elements:
            assert item.raw == case.elements[item.index], "a refused element is kept as it was written"


def test_no_field_of_any_type_is_left_out() -> None:
    listed = {
        (type_, path)
        for type_, fields in FIELDS.items()
        for path in (*ATTRIBUTES, *map("data.".__add__, fields))
    }
    of_models = set[tuple[str, str]]()
    for types in TYPES.values():
        for type_, model in types.items():
            data: Any = model.model_fields["data"].annotation
            of_models |= {(type_, name) for name in model.model_fields}
            of_models |= {(type_, f"data.{name}") for name in data.model_fields}
    assert listed == of_models


def test_the_corpus_is_large_and_has_both_outcomes() -> None:
    assert len(CASES) >= 2_000
    outcomes = [outcome for case in CASES for outcome in case.outcomes]
    assert outcomes.count(None) > 500
    assert len(outcomes) - outcomes.count(None) > 1_500
