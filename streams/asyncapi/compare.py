"""What in a newer document breaks those who go by an older one. The rules are in docs/evolution.md.

Names, addresses and bindings must stay. Of what others send us, all that was accepted must still be; of
what we send, nothing may come that could not come before, and nothing stay away that always came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.asyncapi.narrowing import Comparison, resolve

Document = Mapping[str, Any]

_PRODUCER: Final = "producer"


@dataclass(frozen=True, slots=True)
class Difference:
    """One breaking change."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def breaking(old: Document, new: Document) -> list[Difference]:
    """All breaking changes from `old` to `new`, in the order of the old document."""
    return [*_channels(old, new), *_operations(old, new), *_messages(old, new)]


def _channels(old: Document, new: Document) -> Iterator[Difference]:
    for name, before in old.get("channels", {}).items():
        where, after = f"channel {name}", new.get("channels", {}).get(name)
        if after is None:
            yield Difference(where, "is gone")
            continue
        for field in ("address", "bindings", "x-arguments", "x-bound-to"):
            # Of addresses with a parameter, the values are what counts: one type alone has none.
            if field == "address" and _keys(before) <= _keys(after):
                continue
            if before.get(field) != after.get(field):
                yield Difference(where, f"{field} is {after.get(field)}, it was {before.get(field)}")
        for message in before.get("messages", {}):
            if message not in after.get("messages", {}):
                yield Difference(where, f"the message {message} is gone")


def _keys(channel: Document) -> set[str]:
    """The routing keys that a channel's address stands for; itself where nothing enumerates them."""
    address = channel["address"]
    names = channel.get("parameters", {})
    if len(names) == 1 and address == f"{{{next(iter(names))}}}":
        return set(next(iter(names.values())).get("enum", [address]))
    return {address}


def _operations(old: Document, new: Document) -> Iterator[Difference]:
    for name, before in old.get("operations", {}).items():
        where, after = f"operation {name}", new.get("operations", {}).get(name)
        if after is None:
            yield Difference(where, "is gone")
            continue
        for field in ("action", "channel"):
            if before[field] != after[field]:
                yield Difference(where, f"{field} is {after[field]}, it was {before[field]}")
        kept = [message["$ref"] for message in after.get("messages", [])]
        for message in before.get("messages", []):
            if message["$ref"] not in kept:
                yield Difference(where, f"the message {message['$ref'].rpartition('/')[2]} is gone")


def _messages(old: Document, new: Document) -> Iterator[Difference]:
    received, sent = _directions(old)
    for name, before in old["components"]["messages"].items():
        after = new["components"]["messages"].get(name)
        if after is None:
            continue  # its channel says so
        if before.get("contentType") != after.get("contentType"):
            was, now = before.get("contentType"), after.get("contentType")
            yield Difference(f"message {name}", f"the content type is {now}, it was {was}")
        found: dict[Difference, None] = {}
        for outgoing in (False, True):
            if name not in (sent if outgoing else received):
                continue
            for part in ("headers", "payload"):
                comparison = Comparison(old, new, outgoing=outgoing)
                for path, what in comparison.run(before.get(part, {}), after.get(part, {}), part):
                    found[Difference(f"message {name}, {path}", what)] = None
        yield from found


def _directions(document: Document) -> tuple[set[str], set[str]]:
    """(messages that others send us, messages that we send), by the roles of the operations."""
    received: set[str] = set()
    sent: set[str] = set()
    for operation in document.get("operations", {}).values():
        if operation["action"] != "send":
            continue
        by_others = any(tag["name"] == _PRODUCER for tag in operation.get("tags", []))
        for message in operation.get("messages", []):
            target = resolve(message, document, follow=False)
            (received if by_others else sent).add(target["$ref"].rpartition("/")[2])
    return received, sent
