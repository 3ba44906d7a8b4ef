"""The corpus of bad input: more than 2,000 messages, each with what must become of it.

Three kinds of tables: values that each kind of field takes and does not take (fields.py), whole events and
bytes (events.py), and messages with arrays, properties and headers (messages.py). Outcomes are written by
hand from the contract (docs/operations.md, schemas/), not taken from what the code does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.decode import BATCH, BINARY, STRUCTURED
from tests.corpus.case import (
    DATA,
    NOW,
    TASK,
    TIME,
    UNDECODABLE,
    UNKNOWN,
    Case,
    Outcome,
    changed,
    encode,
    event,
)
from tests.corpus.events import BYTES, ENVELOPE, TASKS
from tests.corpus.fields import field_cases
from tests.corpus.messages import (
    ARRAYS,
    BINARY_MODE,
    BROKEN_ARRAYS,
    CONTENT_TYPES,
    PROPERTIES,
    RAW_PROPERTIES,
    REFUSED_PROPERTIES,
)


def cases() -> list[Case]:
    """The corpus."""
    found = list(_cases())
    names = [case.name for case in found]
    assert len(set(names)) == len(names)
    return found


def _cases() -> Iterator[Case]:
    yield from field_cases()
    for number, (attributes, outcome) in enumerate(ENVELOPE):
        yield _structured(
            f"envelope {number}", encode(event(f"envelope {number}", **attributes)), outcome, attributes
        )
    for number, (fields, outcome) in enumerate(TASKS):
        name = f"task {number}"
        yield _structured(name, encode(event(name, data=changed("task.created", **fields))), outcome)
    for what, raw, outcome in BYTES:
        yield _structured(f"bytes: {what}", _filled(raw, f"bytes: {what}"), outcome)
    for what, elements, outcomes in ARRAYS:
        yield _array(f"array: {what}", elements, outcomes)
    for what, raw, outcome in BROKEN_ARRAYS:
        yield Case(f"broken array: {what}", raw, (outcome,), ("",), content_type=BATCH)
    for number, (content_type, outcome) in enumerate(CONTENT_TYPES):
        name = f"content type {number}"
        yield Case(name, encode(event(name)), (outcome,), (name,), content_type=content_type)
    for number, (properties, body, outcome) in enumerate(BINARY_MODE):
        yield _binary(f"binary {number}", properties, body, outcome)
    for number, (properties, outcome) in enumerate(PROPERTIES):
        name = f"properties {number}"
        yield Case(name, encode(event(name)), (outcome,), (name,), properties=properties)
    for number, (properties, outcome) in enumerate(RAW_PROPERTIES):
        name = f"raw properties {number}"
        given = dict(properties)
        content_type = given.pop("content_type", STRUCTURED)
        yield Case(
            name, encode(event(name)), (outcome,), (name,), content_type=content_type, properties=given
        )
    for number, properties in enumerate(REFUSED_PROPERTIES):
        name = f"refused with properties {number}"
        body = encode(event(name, type="task.exploded"))
        yield Case(name, body, (UNKNOWN,), (name,), properties=properties)
        name = f"undecodable with properties {number}"
        yield Case(name, b"\xff", (UNDECODABLE,), (name,), properties=properties)
    for encoding in ("gzip", "deflate", "br"):
        name = f"content encoding {encoding}"
        yield Case(
            name,
            b"\x1f\x8b\x08" + name.encode(),
            (UNDECODABLE,),
            (name,),
            properties={"content_encoding": encoding},
        )


def _structured(name: str, body: bytes, outcome: Outcome, attributes: dict[str, Any] | None = None) -> Case:
    return Case(name, body, (outcome,), (str((attributes or {}).get("id", name)),))


def _filled(raw: str | bytes, name: str) -> bytes:
    body = raw if isinstance(raw, bytes) else raw.encode()
    for word, value in (("NAME", name), ("TIME", TIME), ("TASK", TASK)):
        body = body.replace(word.encode(), value.encode())
    return body


def _array(name: str, elements: list[Any], outcomes: list[Outcome]) -> Case:
    """Written with white space that no encoder of ours would write: a letter must keep it."""
    ids = [f"{name} {number}" for number in range(len(elements))]
    raw = [
        element if isinstance(element, bytes) else encode(event(id_, **element)).replace(b",", b" ,\t", 1)
        for id_, element in zip(ids, elements, strict=True)
    ]
    body = b" [\n" + b" ,\n".join(raw) + b"\n] "
    return Case(name, body, tuple(outcomes), tuple(ids), content_type=BATCH, elements=tuple(raw))


def _binary(name: str, properties: dict[str, Any], body: bytes | None, outcome: Outcome) -> Case:
    good = {
        "message_id": name,
        "type": "task.created",
        "app_id": "corpus",
        "timestamp": int(NOW.timestamp()) - 60,
    }
    given = {**good, **properties}
    content_type = given.pop("content_type", BINARY)
    data = encode(DATA["task.created"]) if body is None else body
    return Case(name, data, (outcome,), (name,), content_type=content_type, properties=given)
