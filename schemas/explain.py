"""What pydantic found wrong, as an error of ours: the field, the remedy, never the value."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from schemas.errors import EventError, InvalidEvent, Undecodable, UnknownType

_MAX_MESSAGE = 400


def explain(error: ValidationError, known: Collection[str], prefix: str = "") -> EventError:
    """The first thing that is wrong with an event, by its path.

    Args:
        known: the types that would have been right; pydantic's paths may begin with one of them.
        prefix: put before the path, as in `data.`.
    """
    details = error.errors(include_url=False, include_input=False)
    kind, location = details[0]["type"], [str(part) for part in details[0]["loc"]]
    if kind == "json_invalid":
        return Undecodable(f"the text is not valid JSON: {details[0]['msg'][:120]}")
    if kind == "union_tag_invalid" or (kind == "literal_error" and location == ["type"]):
        tag = str(details[0].get("ctx", {}).get("tag", "the type"))[:100]
        return unknown_type(tag, known)
    if kind == "union_tag_not_found":
        return InvalidEvent("is missing", field="type")
    if location and location[0] in known:
        del location[0]  # the union names the member that it chose
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidEvent(f"{details[0]['msg']}{more}"[:_MAX_MESSAGE], field=prefix + ".".join(location))


def unknown_type(name: str, known: Collection[str]) -> UnknownType:
    return UnknownType(f"{name[:100]!r} is not known here; known: {', '.join(sorted(known))}", field="type")
