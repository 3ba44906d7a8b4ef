"""Cards of servers, channels and operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.asyncapi.page.markup import Markup, chip, inline, join, link, tag

Document = Mapping[str, Any]


def server_card(server: Mapping[str, Any], document: Document) -> Markup:
    variables = [
        tag(
            "li",
            tag("code", f"{{{name}}}"),
            " ",
            inline(v["description"]),
            tag("small", f" ({v['default']})"),
        )
        for name, v in server.get("variables", {}).items()
    ]
    schemes = document["components"]["securitySchemes"]
    ways = [schemes[item["$ref"].rpartition("/")[2]] for item in server.get("security", [])]
    return tag(
        "article",
        tag("h3", server["title"]),
        tag("p", tag("code", f"{server['protocol']}://{server['host']}{server['pathname']}", class_="url")),
        tag("p", inline(server["description"]), class_="quiet"),
        tag("ul", *variables, *(tag("li", inline(way["description"])) for way in ways)),
        class_="card",
    )


def channel_card(key: str, channel: Mapping[str, Any], document: Document) -> Markup:
    amqp = channel["bindings"]["amqp"]
    of = amqp.get("exchange") or amqp["queue"]
    facts = [chip(of["type"])] if "type" in of else [chip("quorum")]
    facts += [chip(word) for word in ("durable", "exclusive", "autoDelete") if of.get(word)]
    facts += [
        chip(join(name, " ", tag("code", str(value))))
        for name, value in channel.get("x-arguments", {}).items()
    ]
    operations = {
        name: o
        for name, o in document["operations"].items()
        if o["channel"]["$ref"].rpartition("/")[2] == key
    }
    messages = [link(f"#message-{name}", name, class_="message") for name in channel["messages"]]
    return tag(
        "article",
        tag("h3", tag("code", of["name"]), " ", tag("small", amqp["is"].replace("routingKey", "exchange"))),
        tag("p", inline(channel["description"])),
        tag("div", *facts, class_="rules"),
        _address(channel),
        tag("div", *(_act(name, o) for name, o in operations.items()), class_="acts") if operations else None,
        tag("div", *messages, class_="messages"),
        class_="card",
        id=f"channel-{key}",
    )


def _address(channel: Mapping[str, Any]) -> Markup | None:
    if channel["bindings"]["amqp"]["is"] != "routingKey":
        return None
    lines = [tag("p", "Routing key ", tag("code", channel["address"], class_="url"))]
    for name, parameter in channel.get("parameters", {}).items():
        values = [chip(value, "value") for value in parameter.get("enum", ())]
        text = inline(parameter["description"])
        lines.append(tag("p", tag("code", f"{{{name}}}"), " ", text, tag("span", *values, class_="rules")))
    return tag("div", *lines, class_="address")


def _act(name: str, operation: Mapping[str, Any]) -> Markup:
    role = operation["tags"][0]["name"]
    badge = tag("span", operation["action"], class_=f"badge {operation['action']}")
    return link(f"#operation-{name}", join(badge, " ", tag("span", role, class_=f"who {role}")), class_="act")


def operation_card(name: str, operation: Mapping[str, Any], document: Document) -> Markup:
    key = operation["channel"]["$ref"].rpartition("/")[2]
    channel = document["channels"][key]
    amqp = channel["bindings"]["amqp"]
    where = (amqp.get("exchange") or amqp["queue"])["name"]
    kind = "exchange" if "exchange" in amqp else "queue"
    role = operation["tags"][0]["name"]
    bindings = operation["bindings"]["amqp"]
    words = {
        "deliveryMode": {1: "transient", 2: "persistent"}.get(bindings.get("deliveryMode", 0)),
        "mandatory": "mandatory" if bindings.get("mandatory") else None,
        "ack": "acknowledged" if bindings.get("ack") else None,
    }
    return tag(
        "article",
        tag(
            "h3",
            tag("span", operation["action"], class_=f"badge {operation['action']}"),
            " ",
            operation["title"],
        ),
        tag(
            "p",
            tag("span", role, class_=f"who {role}"),
            f" {kind} ",
            link(f"#channel-{key}", tag("code", where)),
        ),
        tag("p", inline(operation["description"]), class_="quiet"),
        tag("div", *(chip(word) for word in words.values() if word), class_="rules"),
        class_="card",
        id=f"operation-{name}",
    )
