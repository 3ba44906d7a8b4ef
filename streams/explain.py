"""From what a validator found to what a producer is told: the field, what is wrong, what would be right.

Never the value that was sent: payloads have no place in headers and logs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from schemas.envelope import Event
from schemas.errors import EventError, InvalidEvent, Undecodable, UnknownType

_MAX_MESSAGE: Final = 400
_MAX_NAME: Final = 100
_NOT_OURS: Final = "*"
"""Stands in a path for a name that the producer chose: names inside a payload are payload, too."""

# The validator's own words would show a pattern, a character of the value, or a Python class.
_WORDS: Final = {
    "missing": "is missing",
    "string_type": "must be a string",
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    "uuid_version": "must be a UUIDv7: its milliseconds are the row's created_at (see derive_id)",
    "timezone_aware": "must have a zone, as in 2026-01-31T12:00:00Z",
    "datetime_type": "must be an RFC 3339 time with a zone, as in 2026-01-31T12:00:00Z",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "decimal_type": "must be a number, or a string that holds one",
    "decimal_parsing": "must be a number, or a string that holds one",
}
_PLAIN: Final = ("", "identity", "utf-8", "utf8")
_PATTERNS: Final = {
    r"^[^\x00]*$": "must not contain the character U+0000",
    r"^\d{4}-": "must be an RFC 3339 time with a zone, as in 2026-01-31T12:00:00Z",
}


def explain(error: ValidationError, types: Mapping[str, type[Event]], prefix: str = "") -> EventError:
    """The first thing that is wrong with an event.

    Args:
        types: the types that are handled here.
        prefix: path of what was validated, as in "data.".
    """
    details = error.errors(include_url=False, include_input=False)
    first = details[0]
    kind, context = first["type"], first.get("ctx", {})
    location = list(first["loc"])
    if kind == "json_invalid":
        return Undecodable(f"the body is not valid JSON: {str(context.get('error', ''))[:_MAX_NAME]}")
    if kind == "union_tag_invalid" or (kind == "literal_error" and location == ["type"]):
        given = error.errors(include_url=False)[0]["input"]
        name = given.get("type") if kind == "union_tag_invalid" else given
        if not isinstance(name, str):  # the validator would show an object as text, contents and all
            return InvalidEvent("must be a string", field="type")
        return unknown_type(name, types)
    if kind == "union_tag_not_found":
        return InvalidEvent("is missing", field="type")
    if location and location[0] in types:
        del location[0]  # the union names the member that it chose
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    names = frozenset[str]().union(*map(_field_names, types.values()))
    parts = (str(part) if isinstance(part, int) or part in names else _NOT_OURS for part in location)
    field = (prefix + ".".join(parts)).removesuffix(".")
    return InvalidEvent(f"{_words(kind, context, first['msg'])}{more}"[:_MAX_MESSAGE], field=field)


def unknown_type(name: str, types: Collection[str]) -> UnknownType:
    """No handler takes this type. A type is a name, not a payload: it is told, within bounds."""
    return UnknownType(
        f"{name[:_MAX_NAME]!r} is not handled here; known: {', '.join(sorted(types))}", field="type"
    )


def what_the_bytes_are(body: bytes, content_encoding: object) -> str:
    """A guess at why a body is no JSON, as the end of a sentence; empty without one."""
    if isinstance(content_encoding, str) and content_encoding.lower() not in (
        "",
        "identity",
        "utf-8",
        "utf8",
    ):
        return f" (content encoding {content_encoding[:20]!r} is not understood: send plain UTF-8)"
    for start, what in (
        (b"\x1f\x8b", "it is compressed: send it plain"),
        (b"\xef\xbb\xbf", "it begins with a byte order mark: send it without"),
        (b"\xff\xfe", "it is UTF-16: send UTF-8"),
        (b"\xfe\xff", "it is UTF-16: send UTF-8"),
    ):
        if body.startswith(start):
            return f" ({what})"
    return ""


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """The names of a model's fields and of those of all models inside."""
    names: set[str] = set()
    waiting, seen = [model], {model}
    while waiting:
        for name, info in waiting.pop().model_fields.items():
            names.add(info.alias or name)
            inside = [each for each in _models_in(info.annotation) if each not in seen]
            waiting += inside
            seen.update(inside)
    return frozenset(names)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _words(kind: str, context: dict[str, Any], otherwise: str) -> str:
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return _PATTERNS.get(pattern, f"must match {pattern}")
    if kind == "value_error":
        return str(context.get("error", otherwise))
    return _WORDS.get(kind, otherwise)
