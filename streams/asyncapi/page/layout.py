"""The page: what it says, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from streams.asyncapi.narrowing import resolve
from streams.asyncapi.page.channels import channel_card, operation_card, server_card
from streams.asyncapi.page.flow import diagram
from streams.asyncapi.page.markup import Child, Markup, inline, join, link, markdown, tag
from streams.asyncapi.page.messages import message_card, reasons

Document = Mapping[str, Any]


def to_html(document: Document, *, base: str = "asyncapi") -> str:
    """The page of a document that `build` made.

    Args:
        base: where the JSON and YAML forms are, without their endings, as seen from the page.
    """
    styles = (resources.files("streams.asyncapi.page") / "page.css").read_text(encoding="utf-8")
    title = f"{document['info']['title']}: events"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(styles)),
    )
    body = tag("body", _navigation(document), tag("main", _top(document, base), *_sections(document)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _top(document: Document, base: str) -> Markup:
    info = document["info"]
    facts = [
        tag("span", f"contract {info['version']}"),
        tag("span", f"AsyncAPI {document['asyncapi']}"),
        tag("span", f"{len(_events(document))} event types"),
        link(f"{base}.yaml", "YAML"),
        link(f"{base}.json", "JSON"),
    ]
    return tag("header", tag("h1", info["title"]), tag("div", *facts, class_="facts"))


def _sections(document: Document) -> list[Markup]:
    channels = document["channels"]
    exchanges = {k: c for k, c in channels.items() if c["bindings"]["amqp"]["is"] == "routingKey"}
    queues = {k: c for k, c in channels.items() if k not in exchanges}
    messages = document["components"]["messages"]
    return [
        _section("overview", "Overview", markdown(document["info"]["description"])),
        _section("map", "Map", diagram(document)),
        _section("servers", "Servers", _grid(server_card(s, document) for s in document["servers"].values())),
        _section("exchanges", "Exchanges", *(channel_card(k, c, document) for k, c in exchanges.items())),
        _section("queues", "Queues", *(channel_card(k, c, document) for k, c in queues.items())),
        _section("operations", "Operations", *_operations(document)),
        _section("messages", "Messages", *(message_card(k, m, document) for k, m in messages.items())),
        _section("reasons", "Why a message is refused", reasons(document)),
    ]


def _operations(document: Document) -> list[Markup]:
    return [_grid(operation_card(name, o, document) for name, o in document["operations"].items())]


def _section(anchor: str, title: str, *content: Child) -> Markup:
    return tag("section", tag("h2", link(f"#{anchor}", title)), *content, id=anchor)


def _grid(cards: Any) -> Markup:
    return tag("div", *cards, class_="grid")


def _navigation(document: Document) -> Markup:
    names = {tag_["name"]: tag_.get("description", "") for tag_ in document["info"]["tags"]}
    groups: dict[str, list[Markup]] = {}
    for key, message in document["components"]["messages"].items():
        first = resolve(message, document)["tags"][0]["name"]
        groups.setdefault(first, []).append(link(f"#message-{key}", message["name"]))
    sections = ("overview", "map", "servers", "exchanges", "queues", "operations")
    top = [link(f"#{name}", name.capitalize()) for name in sections]
    parts = [tag("div", tag("strong", name, title=names.get(name)), *links) for name, links in groups.items()]
    return tag(
        "nav", tag("p", inline(document["info"]["title"]), class_="brand"), tag("div", *top), join(*parts)
    )


def _events(document: Document) -> list[str]:
    messages = document["components"]["messages"].values()
    return [
        m["name"] for m in messages if not m["name"].endswith((".batch", ".binary")) and "x-reasons" not in m
    ]
