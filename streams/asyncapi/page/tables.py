"""A JSON Schema as a table: one row for each field, nested ones below their parents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.fields import UUID7_PATTERN
from streams.asyncapi.narrowing import resolve
from streams.asyncapi.page.markup import Child, Markup, chip, inline, join, tag
from streams.asyncapi.payloads import INSTANT_PATTERN, UUID_PATTERN

Schema = Mapping[str, Any]

_KNOWN_PATTERNS: Final = {
    UUID7_PATTERN: "UUIDv7",
    UUID_PATTERN: "UUID",
    INSTANT_PATTERN: "RFC 3339, with a zone",
    r"^[^\x00]*$": "no U+0000",
}
_BOUNDS: Final = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("minLength", "≥ {} characters"),
    ("maxLength", "≤ {} characters"),
    ("minItems", "≥ {} items"),
    ("maxItems", "≤ {} items"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One field."""

    name: str
    schema: Schema
    required: bool
    depth: int
    description: str


def table(schema: Schema, document: Mapping[str, Any], *, only: str = "", without: str = "") -> Markup:
    """The fields of an object; nothing where there are none.

    Args:
        only: show the fields of this field alone.
        without: leave this field out.
    """
    schema = resolve(schema, document)
    if only:
        schema = resolve(schema["properties"][only], document)
    rows = [row for row in _rows(schema, document, 0, ()) if not (without and row.name == without)]
    if not rows:
        return tag("p", inline(schema.get("description", "Anything.")), class_="quiet")
    head = tag("tr", *(tag("th", name) for name in ("Field", "Type", "Meaning")))
    return tag("table", tag("thead", head), tag("tbody", *map(_row, rows)), class_="schema")


def _rows(schema: Schema, document: Mapping[str, Any], depth: int, seen: tuple[str, ...]) -> Iterator[Row]:
    for name, raw in schema.get("properties", {}).items():
        field = resolve(raw, document)
        description = raw.get("description") or field.get("description", "")
        yield Row(name, field, name in schema.get("required", ()), depth, description)
        reference = raw.get("$ref", "")
        if reference not in seen:
            yield from _rows(field, document, depth + 1, (*seen, reference) if reference else seen)


def _row(row: Row) -> Markup:
    name = tag("code", row.name, class_="name")
    mark = tag("span", "required", class_="required") if row.required else None
    return tag(
        "tr",
        tag("td", name, mark, class_=f"depth{min(row.depth, 4)}"),
        tag("td", kind_of(row.schema), class_="kind"),
        tag("td", inline(row.description) if row.description else None, _rules(row.schema)),
    )


def kind_of(schema: Schema) -> str:
    """A type in a word or two."""
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = schema.get("type")
    if kinds is None:
        branches = schema.get("anyOf") or schema.get("oneOf") or []
        return " or ".join(dict.fromkeys(kind_of(branch) for branch in branches)) or "anything"
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    if schema.get("pattern") in (UUID7_PATTERN, UUID_PATTERN, INSTANT_PATTERN):
        names[0] = {"UUIDv7": "UUIDv7", "UUID": "UUID"}.get(_KNOWN_PATTERNS[schema["pattern"]], "instant")
    if names[0] == "array" and isinstance(schema.get("items"), Mapping) and "type" in schema["items"]:
        names[0] = f"array of {kind_of(schema['items'])}"
    return " or ".join(names)


def _rules(schema: Schema) -> Markup | None:
    """Everything that the type does not say yet."""
    rules: list[Child] = [*_limits(schema)]
    for branch in schema.get("anyOf", ()):
        if isinstance(branch, Mapping) and branch.get("type") in ("number", "string"):
            rules += _limits(branch, branch["type"])
    items = schema.get("items")
    if isinstance(items, Mapping) and "$ref" not in items:
        rules += _limits(items, "each")
    if values := schema.get("enum"):
        rules += [chip(str(value), "value") for value in values]
    if schema.get("uniqueItems"):
        rules.append(chip("no repeats"))
    if schema.get("default") not in (None, [], {}):
        rules.append(join(chip(join("default ", tag("code", json.dumps(schema["default"]))))))
    return tag("div", *rules, class_="rules") if rules else None


def _limits(schema: Schema, of: str = "") -> list[Child]:
    prefix = f"{of}: " if of else ""
    found: list[Child] = [
        chip(prefix + text.format(f"{schema[keyword]:,}")) for keyword, text in _BOUNDS if keyword in schema
    ]
    pattern = schema.get("pattern")
    if pattern and pattern not in _KNOWN_PATTERNS:
        shown = pattern if len(pattern) < 60 else "plain decimal" if "[1-9][0-9]" in pattern else pattern
        found.append(tag("span", prefix, tag("code", shown), class_="chip", title=pattern))
    return found
