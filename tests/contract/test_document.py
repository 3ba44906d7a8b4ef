"""The document is what the code says, and its examples are what the service takes."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import Reason
from streams.asyncapi import Limits, build, to_html, to_json, to_yaml
from streams.asyncapi.letters import WRITTEN
from streams.decode import BATCH, BINARY
from streams.delivery import Item
from streams.publisher import Publisher
from streams.quarantine import Quarantine
from streams.registry import load_subscriptions
from streams.settings import Settings
from streams.topology import Topology
from tests.contract.judges import DOCUMENT, LIMITS, MESSAGES, SUBSCRIPTIONS, service_says, validator_of

COMMITTED = Path(__file__).parent.parent.parent / "asyncapi.yaml"
HOME = {name: queue for queue, s in SUBSCRIPTIONS.items() for name in s.types if not queue.startswith("inv")}
HOME["cache.invalidated"] = "invalidations.apply_invalidations"


def test_the_committed_document_is_what_the_code_says() -> None:
    assert COMMITTED.read_text() == to_yaml(DOCUMENT), "run `streams asyncapi --output asyncapi.yaml`"


def test_limits_are_those_of_the_settings() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert Limits(**{name: defaults[name] for name in Limits.__slots__}) == LIMITS


def test_every_exchange_and_queue_is_named_with_its_bindings_and_arguments() -> None:
    topology = Topology.of(SUBSCRIPTIONS.values())
    channels = DOCUMENT["channels"].values()
    amqp = [channel["bindings"]["amqp"] for channel in channels]
    assert {binding["bindingVersion"] for binding in amqp} == {"0.3.0"}
    exchanges = {b["exchange"]["name"]: b["exchange"] for b in amqp if b["is"] == "routingKey"}
    assert exchanges == {
        e.name: {"name": e.name, "type": "topic", "durable": True, "autoDelete": False}
        for e in topology.exchanges
    }
    queues = {c["address"]: c for c in channels if c["bindings"]["amqp"]["is"] == "queue"}
    assert {name: c["x-arguments"] for name, c in queues.items()} == {
        q.name: q.arguments for q in topology.queues
    }
    bound = {name: {(b["exchange"], b["routingKey"]) for b in c["x-bound-to"]} for name, c in queues.items()}
    assert bound == {q.name: set(q.bindings) for q in topology.queues}


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_fit_their_schemas(name: str) -> None:
    message = MESSAGES[name]
    assert message["examples"]
    for example in message["examples"]:
        for part in ("payload", "headers"):
            assert list(map(str, validator_of(message[part]).iter_errors(example[part]))) == []


@pytest.mark.parametrize("name", HOME)
def test_the_service_takes_the_examples(name: str) -> None:
    (example,) = MESSAGES[name]["examples"]
    (item,) = service_says(json.dumps(example["payload"]).encode(), HOME[name])
    assert item.error is None
    assert item.event is not None
    assert item.event.type == name


@pytest.mark.parametrize("exchange", ["tasks", "votes", "agents", "invalidations"])
def test_the_service_takes_the_examples_of_arrays_and_of_binary_mode(exchange: str) -> None:
    queue = next(queue for queue, s in SUBSCRIPTIONS.items() if s.exchange == exchange)
    (many,) = MESSAGES[f"{exchange}.batch"]["examples"]
    items = service_says(json.dumps(many["payload"]).encode(), queue, BATCH)
    assert [item.error for item in items] == [None, None]
    (one,) = MESSAGES[f"{exchange}.binary"]["examples"]
    properties = dict(re.findall(r"(\w+)=([\w.\-]+)", one["summary"]))
    (item,) = service_says(
        json.dumps(one["payload"]).encode(),
        queue,
        BINARY,
        headers=one["headers"],
        **{name: properties[name] for name in ("type", "message_id", "app_id")},
    )
    assert item.error is None
    assert item.event is not None
    assert item.event.time == datetime.fromisoformat(one["headers"]["cloudEvents:time"])


@pytest.mark.parametrize("reason", WRITTEN)
def test_letters_are_as_the_document_says(reason: str) -> None:
    message = MESSAGES["dead-letter"]
    assert set(message["x-reasons"]) == {str(r) for r in Reason}
    headers = {"x-replay-of": "00-1", "mine": "yes"}
    (item,) = service_says(b"{}", "tasks.record_tasks", message_id="1", app_id="me", headers=headers)
    letter = _letter(item, Reason(reason))
    assert list(map(str, validator_of(message["headers"]).iter_errors(letter.headers))) == []
    known = DOCUMENT["components"]["schemas"]["DeadLetterHeaders"]["properties"]
    assert {name for name in letter.headers if name.startswith("x-")} <= set(known)
    assert letter.routing_key == f"tasks.{reason}"


def _letter(item: Item, reason: Reason) -> Any:
    item.delivery.exchange = "tasks"
    publisher = Publisher("amqp://nowhere", "nobody")
    return Quarantine(publisher, "tasks.record_tasks").letter(item, reason, "what is wrong", field="data")


def test_no_credential_gets_into_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, scheme in {"AMQP_URL": "amqp", "DATABASE_URL": "postgresql", "REDIS_URL": "redis"}.items():
        monkeypatch.setenv(name, f"{scheme}://user:hunter2@inner-host/secret-path")
    settings = Settings.load()
    document = build(load_subscriptions(settings.handlers), Limits.of(settings))
    for text in (to_yaml(document), to_json(document).decode(), to_html(document)):
        assert not re.search("hunter2|inner-host|secret-path", text)


def test_handlers_of_other_packages_appear_in_it() -> None:
    document = build(load_subscriptions(["billing.handlers", "handlers.invalidations"]), LIMITS)
    assert "tasks" not in document["channels"]
    invoices = document["channels"]["invoices"]
    assert invoices["address"] == "invoice.issued"
    assert set(invoices["messages"]) == {"invoice.issued", "invoices.batch", "invoices.binary"}
    (example,) = document["components"]["messages"]["invoice.issued"]["examples"]
    assert set(example["payload"]["data"]) == {"invoice_id", "customer_id", "amount"}
    assert document["operations"]["produce.invoices"]["tags"] == [{"name": "producer"}]
    assert "invoice.issued" in to_html(document)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = to_html(DOCUMENT)
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|\son\w+=|https?://(?!www.w3.org)", page)
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    for name in [*MESSAGES, *DOCUMENT["channels"], *(str(r) for r in Reason)]:
        assert name in page


def test_markup_in_a_description_is_shown_and_not_obeyed() -> None:
    evil = "<script>alert(1)</script> [x](javascript:alert(1)) \"><b onclick='x'>"
    text = json.dumps(DOCUMENT).replace('"A task exists.', json.dumps(evil)[:-1])
    page = to_html(json.loads(text))
    assert "&lt;script&gt;" in page
    assert not re.search(r"<script|href=\"javascript|<b onclick", page)
