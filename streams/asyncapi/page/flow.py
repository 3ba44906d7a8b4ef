"""The map: who publishes to which exchange, where it goes, who takes it. An SVG drawn from the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.asyncapi.page.markup import Markup, join, tag

_COLUMNS: Final = (10, 235, 480, 790)
_WIDTHS: Final = (120, 140, 205, 120)
_STEP: Final = 54
_HEIGHT: Final = 32
_TITLES: Final = ("publish", "exchanges", "queues", "take")
_OWN: Final = "a queue of your own"


@dataclass(frozen=True, slots=True)
class Node:
    """A box: in which column, at which height, what it says, and where a click leads."""

    column: int
    y: float
    text: str
    kind: str
    target: str

    @property
    def left(self) -> float:
        return _COLUMNS[self.column]

    @property
    def right(self) -> float:
        return _COLUMNS[self.column] + _WIDTHS[self.column]


def diagram(document: Mapping[str, Any]) -> Markup:
    """Senders, exchanges, queues, takers, and the ways between them."""
    channels = document["channels"]
    exchanges = [key for key, channel in channels.items() if _is(channel, "routingKey")]
    queues = [key for key, channel in channels.items() if _is(channel, "queue")]
    edges = list(_edges(document, exchanges, queues))
    senders = _roles(edge[0][5:] for edge in edges if edge[0].startswith("send:"))
    takers = _roles(edge[1][5:] for edge in edges if edge[1].startswith("take:"))
    if any(_OWN in edge for edge in edges):
        queues = [*queues[:-1], _OWN, *queues[-1:]]
    height = _STEP * max(len(exchanges), len(queues), len(senders), len(takers)) + 40
    nodes: dict[str, Node] = {}
    for column, keys in enumerate(
        ([f"send:{role}" for role in senders], exchanges, queues, [f"take:{role}" for role in takers])
    ):
        gap = (height - 40) / max(1, len(keys))
        for place, key in enumerate(keys):
            nodes[key] = _node(column, 40 + gap * (place + 0.5), key, channels)
    ways = [_way(nodes[start], nodes[end], role) for start, end, role in edges]
    heads = [
        tag("text", title, x=_COLUMNS[n] + _WIDTHS[n] / 2, y=20, class_="head")
        for n, title in enumerate(_TITLES)
    ]
    width = _COLUMNS[-1] + _WIDTHS[-1] + 10
    picture = tag(
        "svg", *heads, *ways, *map(_box, nodes.values()), viewBox=f"0 0 {width} {height}", role="img"
    )
    return tag("figure", picture, class_="flow")


def _edges(
    document: Mapping[str, Any], exchanges: list[str], queues: list[str]
) -> Iterable[tuple[str, str, str]]:
    """(from, to, role), each once."""
    found: dict[tuple[str, str, str], None] = {}
    for operation in document["operations"].values():
        role, channel = operation["tags"][0]["name"], operation["channel"]["$ref"].rpartition("/")[2]
        if operation["action"] == "send":
            found[f"send:{role}", channel, role] = None
        elif channel in queues:
            found[channel, f"take:{role}", role] = None
        else:
            found[channel, _OWN, "own"] = found[_OWN, f"take:{role}", role] = None
    names = {document["channels"][key]["bindings"]["amqp"]["exchange"]["name"]: key for key in exchanges}
    for queue in queues:
        for bound in document["channels"][queue]["x-bound-to"]:
            found[names[bound["exchange"]], queue, "bound"] = None
    return found


def _roles(roles: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(roles))


def _is(channel: Mapping[str, Any], kind: str) -> bool:
    return bool(channel["bindings"]["amqp"]["is"] == kind)


def _node(column: int, y: float, key: str, channels: Mapping[str, Any]) -> Node:
    if key in channels:
        channel = channels[key]
        amqp = channel["bindings"]["amqp"]
        kind = "queue" if "queue" in amqp else "exchange"
        return Node(column, y, amqp[kind]["name"], kind, f"#channel-{key}")
    if key == _OWN:
        return Node(column, y, key, "own", "#operations")
    role = key[5:]
    return Node(column, y, role, f"role {role}", "#operations")


def _box(node: Node) -> Markup:
    width = _WIDTHS[node.column]
    shape = tag("rect", x=node.left, y=node.y - _HEIGHT / 2, width=width, height=_HEIGHT, rx=8)
    label = tag("text", _short(node.text), x=node.left + width / 2, y=node.y + 4.5)
    return tag("a", shape, label, href=node.target, class_=f"node {node.kind}")


def _short(text: str) -> str:
    return text if len(text) <= 28 else text[:27] + "…"


def _way(start: Node, end: Node, role: str) -> Markup:
    x1, x2 = start.right, end.left
    bend = (x2 - x1) / 2
    path = f"M{x1} {start.y}C{x1 + bend} {start.y} {x2 - bend} {end.y} {x2 - 5} {end.y}"
    head = f"M{x2 - 6} {end.y - 4}L{x2} {end.y}L{x2 - 6} {end.y + 4}z"
    return join(tag("path", d=path, class_=f"way {role}"), tag("path", d=head, class_=f"tip {role}"))
