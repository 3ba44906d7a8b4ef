"""The comparer of documents names what breaks users of an earlier one, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.asyncapi import Limits, build
from streams.asyncapi.compare import breaking
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS

RELEASED = sorted((Path(__file__).parent.parent.parent / "docs" / "released").glob("asyncapi-*.yaml"))
CURRENT = build(load_subscriptions(DEFAULT_HANDLERS), Limits(4_194_304, 5_000, 300, 365, 32))

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(CURRENT)
    change(document)
    return document


def schemas(document: dict[str, Any]) -> Any:
    return document["components"]["schemas"]


def field(document: dict[str, Any], schema: str, name: str) -> Any:
    return schemas(document)[schema]["properties"][name]


def drop_type(document: dict[str, Any]) -> None:
    """As it is when a handler does not take a type any more."""
    document["components"]["messages"].pop("task.started")
    for channel in document["channels"].values():
        channel["messages"].pop("task.started", None)
    for operation in document["operations"].values():
        kept = [m for m in operation["messages"] if not m["$ref"].endswith("/task.started")]
        operation["messages"] = kept
    items = document["components"]["messages"]["tasks.batch"]["payload"]["items"]
    items["oneOf"] = [item for item in items["oneOf"] if not item["$ref"].endswith("/TaskStarted")]
    document["channels"]["tasks"]["parameters"]["type"]["enum"].remove("task.started")


BREAKING: dict[str, tuple[Change, str]] = {
    "removed type": (drop_type, "channel tasks: the message task.started is gone"),
    "removed exchange": (lambda d: d["channels"].pop("agents"), "channel agents: is gone"),
    "renamed exchange": (
        lambda d: d["channels"]["tasks"]["bindings"]["amqp"]["exchange"].update(name="work"),
        "channel tasks: bindings is",
    ),
    "exchange of another kind": (
        lambda d: d["channels"]["tasks"]["bindings"]["amqp"]["exchange"].update(type="direct"),
        "channel tasks: bindings is",
    ),
    "other routing key": (
        lambda d: d["channels"]["invalidations"].update(address="cache.stale"),
        "channel invalidations: address is cache.stale",
    ),
    "other queue arguments": (
        lambda d: d["channels"]["queue.tasks.record_tasks"]["x-arguments"].pop("x-overflow"),
        "channel queue.tasks.record_tasks: x-arguments is",
    ),
    "removed operation": (lambda d: d["operations"].pop("produce.votes"), "operation produce.votes: is gone"),
    "other direction": (
        lambda d: d["operations"]["follow.round.decided"].update(action="send"),
        "operation follow.round.decided: action is send",
    ),
    "other content type": (
        lambda d: d["components"]["messages"]["task.created"].update(contentType="application/json"),
        "message task.created: the content type is application/json",
    ),
    "removed field": (
        lambda d: schemas(d)["CreatedData"]["properties"].pop("priority"),
        "message task.created, payload.data.priority: is gone",
    ),
    "new required field": (
        lambda d: schemas(d)["CreatedData"]["required"].append("user_id"),
        "message task.created, payload.data.user_id: is required now",
    ),
    "narrowed limit": (
        lambda d: field(d, "CreatedData", "kind").update(maxLength=100),
        "message task.created, payload.data.kind: maxLength is 100, it was 200",
    ),
    "new limit": (
        lambda d: field(d, "RegisteredData", "capabilities").update(minItems=1),
        "message agent.registered, payload.data.capabilities: minItems is 1, it was not set",
    ),
    "narrowed enum": (
        lambda d: schemas(d)["AgentStatus"]["enum"].remove("paused"),
        "message agent.status_changed, payload.data.status: ['paused'] is refused now",
    ),
    "null refused": (
        lambda d: field(d, "CreatedData", "agent_id").update(type="string"),
        "message task.created, payload.data.agent_id: the type null is refused now",
    ),
    "other pattern": (
        lambda d: field(d, "StatusChangedData", "agent_id").update(pattern="^[0-9]+$"),
        "message agent.status_changed, payload.data.agent_id: pattern is ^[0-9]+$",
    ),
    "form refused": (
        lambda d: field(d, "CastData", "weight")["anyOf"].pop(),
        "message vote.cast, payload.data.weight: one of its forms is refused now",
    ),
    "nested json narrowed": (
        lambda d: schemas(d)["JsonValue"]["anyOf"].pop(2),
        "message task.created, payload.data.payload.*: one of its forms is refused now",
    ),
    "closed object": (
        lambda d: schemas(d)["CreatedData"].update(additionalProperties=False),
        "message task.created, payload.data.*: nothing else is allowed",
    ),
    "smaller arrays": (
        lambda d: d["components"]["messages"]["tasks.batch"]["payload"].update(maxItems=10),
        "message tasks.batch, payload: maxItems is 10",
    ),
    "field that consumers read is gone": (
        lambda d: (
            schemas(d)["DecidedData"]["properties"].pop("votes"),
            schemas(d)["DecidedData"]["required"].remove("votes"),
        ),
        "message round.decided, payload.data.votes: is gone",
    ),
    "field that consumers read may stay away": (
        lambda d: schemas(d)["DecidedData"]["required"].remove("choice"),
        "message round.decided, payload.data.choice: is not always there any more",
    ),
    "field that consumers read may be longer": (
        lambda d: field(d, "DecidedData", "choice").update(maxLength=500),
        "message round.decided, payload.data.choice: maxLength is 500, it was 200",
    ),
    "field that consumers read may be of another type": (
        lambda d: field(d, "DecidedData", "votes").update(type=["integer", "null"]),
        "message round.decided, payload.data.votes: it may be of type null now",
    ),
    "header of letters is gone": (
        lambda d: schemas(d)["DeadLetterHeaders"]["properties"].pop("x-field"),
        "message dead-letter, headers.x-field: is gone",
    ),
}

HARMLESS: dict[str, Change] = {
    "prose": lambda d: d["info"].update(description="Other words."),
    "new optional field": lambda d: schemas(d)["CreatedData"]["properties"].update(due={"type": "string"}),
    "wider limit": lambda d: field(d, "CreatedData", "kind").update(maxLength=400),
    "wider enum": lambda d: schemas(d)["AgentStatus"]["enum"].append("resting"),
    "optional now": lambda d: schemas(d)["CreatedData"]["required"].remove("kind"),
    "new reason": lambda d: field(d, "DeadLetterHeaders", "x-reason")["enum"].append("too_odd"),
    "new operation": lambda d: d["operations"].update(more=d["operations"]["produce.tasks"]),
    "new field for consumers": lambda d: schemas(d)["DecidedData"]["properties"].update(
        margin={"type": "number"}
    ),
    "narrower for consumers": lambda d: field(d, "DecidedData", "choice").update(maxLength=50),
    "a number where an integer was": lambda d: field(d, "CreatedData", "priority").update(type="number"),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_named(name: str) -> None:
    change, expected = BREAKING[name]
    found = [str(difference) for difference in breaking(CURRENT, changed(change))]
    assert any(line.startswith(expected) for line in found), found


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_is_not(name: str) -> None:
    assert list(map(str, breaking(CURRENT, changed(HARMLESS[name])))) == []


def test_a_second_type_on_an_exchange_changes_the_address_and_breaks_nobody() -> None:
    def grow(document: dict[str, Any]) -> None:
        channel = document["channels"]["invalidations"]
        channel["address"] = "{type}"
        channel["parameters"] = {"type": {"enum": ["cache.invalidated", "cache.flushed"]}}

    assert breaking(CURRENT, changed(grow)) == []


def test_nothing_breaks_users_of_a_released_document() -> None:
    """Begins to bind with the first file in docs/released."""
    found = {
        file.name: list(map(str, breaking(yaml.safe_load(file.read_text()), CURRENT))) for file in RELEASED
    }
    assert {name: changes for name, changes in found.items() if changes} == {}
