"""Cards of messages, and the table of reason codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.asyncapi.narrowing import resolve
from streams.asyncapi.page.markup import Markup, chip, highlighted, inline, join, link, tag
from streams.asyncapi.page.tables import table

Document = Mapping[str, Any]


def message_card(key: str, message: Mapping[str, Any], document: Document) -> Markup:
    text = message.get("description") or message.get("summary", "")
    correlation = resolve(message["correlationId"], document) if "correlationId" in message else None
    places = [
        link(f"#channel-{name}", name)
        for name, channel in document["channels"].items()
        if key in channel["messages"]
    ]
    return tag(
        "article",
        tag("h3", tag("code", message["name"]), " ", tag("small", message.get("title", ""))),
        tag("p", inline(text)),
        tag(
            "div",
            chip(tag("code", message["contentType"])),
            chip(join("correlation ", tag("code", correlation["location"]))) if correlation else None,
            *(chip(join("on ", place)) for place in places),
            class_="rules",
        ),
        tag("div", tag("div", *_parts(message, document)), tag("div", *_examples(message)), class_="two"),
        class_="card message-card",
        id=f"message-{key}",
    )


def _parts(message: Mapping[str, Any], document: Document) -> list[Markup]:
    """Payload, attributes and headers; the attributes that all events share are folded away."""
    payload = resolve(message["payload"], document)
    headers = _folded("Headers", table(message["headers"], document))
    if "data" in payload.get("properties", {}):
        return [
            tag("h4", "data"),
            table(payload, document, only="data"),
            _folded(
                "Attributes of the CloudEvent", table({**payload, "properties": _plain(payload)}, document)
            ),
            headers,
        ]
    return [tag("h4", "Body"), _body(payload, document), *_properties(message), headers]


def _plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: field for name, field in payload["properties"].items() if name != "data"}


def _body(payload: Mapping[str, Any], document: Document) -> Markup:
    """Of an array or of alternatives: what they are made of, by name."""
    items = payload.get("items", payload)
    branches = items.get("oneOf") or items.get("anyOf") or [items]
    references = [branch for branch in branches if "$ref" in branch]
    if not references:
        return table(payload, document)
    names = [chip(item["$ref"].rpartition("/")[2]) for item in references]
    what = (
        f"An array of {payload['minItems']} to {payload['maxItems']:,} of these:"
        if payload.get("type") == "array"
        else "One of these:"
    )
    return join(tag("p", what), tag("div", *names, class_="rules"))


def _properties(message: Mapping[str, Any]) -> list[Markup]:
    properties = message.get("x-amqp-properties")
    if not properties:
        return []
    rows = [
        tag("tr", tag("td", tag("code", name, class_="name")), tag("td", inline(text)))
        for name, text in properties.items()
    ]
    return [tag("h4", "AMQP properties"), tag("table", tag("tbody", *rows), class_="schema")]


def _folded(title: str, content: Markup) -> Markup:
    return tag("details", tag("summary", title), content)


def _examples(message: Mapping[str, Any]) -> list[Markup]:
    shown = []
    for example in message.get("examples", ()):
        shown.append(tag("h4", "Example"))
        if "summary" in example:
            shown.append(tag("p", example["summary"], class_="quiet"))
        shown.append(highlighted(example["payload"]))
        if example.get("headers"):
            shown.append(_folded("Its headers", highlighted(example["headers"])))
    return shown


def reasons(document: Document) -> Markup:
    """The reason codes of dead letters."""
    messages = document["components"]["messages"].values()
    codes = {code: texts for message in messages for code, texts in message.get("x-reasons", {}).items()}
    rows = [
        tag(
            "tr",
            tag("td", tag("code", code, class_="name")),
            tag("td", inline(texts["meaning"])),
            tag("td", inline(texts["remedy"])),
        )
        for code, texts in codes.items()
    ]
    head = tag("tr", *(tag("th", title) for title in ("Reason", "Meaning", "What to do")))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="schema")
