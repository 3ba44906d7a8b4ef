"""Whether one JSON Schema refuses what another accepts; keyword by keyword, in doubt yes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]
Finding = tuple[str, str]
"""(path, what is different)"""

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def resolve(schema: Any, document: Mapping[str, Any], *, follow: bool = True) -> Any:
    """What a reference points to; through further references unless told otherwise."""
    while _is_reference(schema):
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        schema = target
        if not follow:
            break
    return schema


def _is_reference(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "$ref" in schema


class Comparison:
    """Compares schemas of two documents.

    Args:
        outgoing: we send it: the new schema must allow nothing that the old one refused. Otherwise others
            send it: the new schema must refuse nothing that the old one allowed.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any], *, outgoing: bool) -> None:
        self._outgoing = outgoing
        self._wide_document, self._narrow_document = (new, old) if outgoing else (old, new)
        self._known: dict[tuple[str, str], list[Finding]] = {}

    def run(self, old: Any, new: Any, path: str) -> Iterator[Finding]:
        """The ways in which the change from `old` to `new` breaks somebody."""
        yield from self._compare(new, old, path) if self._outgoing else self._compare(old, new, path)

    def _compare(self, wide: Any, narrow: Any, path: str) -> Iterator[Finding]:
        """The ways in which `narrow` refuses what `wide` allows."""
        if not _is_reference(wide) and not _is_reference(narrow):
            yield from self._resolved(wide, narrow, path)
            return
        question = (str(wide), str(narrow))
        if question not in self._known:
            self._known[question] = []  # what a schema that contains itself finds in itself
            pair = resolve(wide, self._wide_document), resolve(narrow, self._narrow_document)
            self._known[question] = list(self._resolved(*pair, path))
        yield from self._known[question]

    def _resolved(self, wide: Any, narrow: Any, path: str) -> Iterator[Finding]:
        if isinstance(wide, bool) or isinstance(narrow, bool):
            if narrow is False and wide is not False:
                yield path, self._say("nothing else is allowed", "more is allowed")
            return
        yield from self._values(wide, narrow, path)
        yield from self._bounds(wide, narrow, path)
        yield from self._object(wide, narrow, path)
        yield from self._parts(wide, narrow, path)
        yield from self._alternatives(wide, narrow, path)

    def _values(self, wide: Schema, narrow: Schema, path: str) -> Iterator[Finding]:
        lost = _types(wide) - _types(narrow)
        if lost:
            names = ", ".join(sorted(lost))
            yield path, self._say(f"the type {names} is refused now", f"it may be of type {names} now")
        allowed, known = _enumerated(wide), _enumerated(narrow)
        if known is None or (self._outgoing and wide.get("x-may-grow")):
            return
        if allowed is None:
            yield path, self._say("only some values are allowed now", "it may be any value now")
        elif more := [value for value in allowed if value not in known]:
            yield path, self._say(f"{more} is refused now", f"it may be {more} now")

    def _bounds(self, wide: Schema, narrow: Schema, path: str) -> Iterator[Finding]:
        for keywords, sign in ((_LOWER, 1), (_UPPER, -1)):
            for keyword in keywords:
                bound, was = narrow.get(keyword), wide.get(keyword)
                if bound is not None and (was is None or sign * bound > sign * was):
                    yield path, self._changed(keyword, wide, narrow)
        for keyword in ("pattern", "uniqueItems", "multipleOf", "not", "if", "then", "else"):
            if narrow.get(keyword) and narrow.get(keyword) != wide.get(keyword):
                yield path, self._changed(keyword, wide, narrow)

    def _object(self, wide: Schema, narrow: Schema, path: str) -> Iterator[Finding]:
        for name in narrow.get("required", ()):
            if name not in wide.get("required", ()):
                yield f"{path}.{name}", self._say("is required now", "is not always there any more")
        before, after = (narrow, wide) if self._outgoing else (wide, narrow)
        for name in before.get("properties", {}):
            if name not in after.get("properties", {}):
                yield f"{path}.{name}", "is gone"

    def _parts(self, wide: Schema, narrow: Schema, path: str) -> Iterator[Finding]:
        fields = narrow.get("properties", {})
        for name, schema in wide.get("properties", {}).items():
            if name in fields:
                yield from self._compare(schema, fields[name], f"{path}.{name}")
        for keyword, step in (("items", "[]"), ("additionalProperties", ".*"), ("propertyNames", ".(names)")):
            if keyword in narrow and not isinstance(narrow[keyword], list):
                yield from self._compare(wide.get(keyword, {}), narrow[keyword], path + step)

    def _alternatives(self, wide: Schema, narrow: Schema, path: str) -> Iterator[Finding]:
        branches, choices = _branches(wide), _branches(narrow)
        if not branches and not choices:
            return
        for branch in branches or [wide]:
            attempts = (list(self._compare(branch, choice, path)) for choice in choices or [narrow])
            if all(attempts):
                yield path, self._say("one of its forms is refused now", "it has another form now")

    def _changed(self, keyword: str, wide: Schema, narrow: Schema) -> str:
        old, new = (narrow, wide) if self._outgoing else (wide, narrow)
        return f"{keyword} is {new.get(keyword, 'not set')}, it was {old.get(keyword, 'not set')}"

    def _say(self, incoming: str, outgoing: str) -> str:
        return outgoing if self._outgoing else incoming


def _branches(schema: Schema) -> Sequence[Any]:
    """The alternatives of a schema; none where it has none."""
    branches: Sequence[Any] = schema.get("anyOf") or schema.get("oneOf") or ()
    return branches


_EVERY: Final = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})


def _types(schema: Schema) -> frozenset[str]:
    kinds = schema.get("type")
    if kinds is None:
        return frozenset().union(*map(_types, _branches(schema))) if _branches(schema) else _EVERY
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return frozenset(found | ({"integer"} if "number" in found else set()))


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values
