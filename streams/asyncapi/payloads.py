"""JSON Schemas of events, as exact as JSON Schema can be.

Pydantic's own schemas say `format: uuid` and leave decimals open; validators that ignore `format` then accept
what the service refuses. Here every such rule is a pattern, without look-around, so that the engines of all
languages read it alike. What no schema can say is listed in `streams.asyncapi.rules`.

The dialect is JSON Schema draft-07, which AsyncAPI's own Schema Object extends.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from schemas.envelope import Event

REF: Final = "#/components/schemas/"

UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

_DAY: Final = (
    r"[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_DAY: Final = (
    r"(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29"
)  # fmt: skip
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
_ZONE: Final = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
INSTANT_PATTERN: Final = rf"^(?:{_DAY}|{_LEAP_DAY})T{_TIME}{_ZONE}$"
"""RFC 3339 with a zone: days that exist, no leap seconds, years 1000 to 9999."""

_NO_NUL: Final = r"^[^\x00]*$"
_JSON_VALUE: Final = "JsonValue"
_FIRST: Final = ("$ref", "title", "description", "type", "format", "const", "enum", "pattern", "anyOf")
_LAST: Final = ("properties", "required", "items", "default", "examples")


class Exact(GenerateJsonSchema):
    """Pydantic's generator with the rules of strict JSON input written out."""

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid", "pattern": UUID_PATTERN}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        if schema.get("tz_constraint") != "aware":
            return super().datetime_schema(schema)
        return {"type": "string", "format": "date-time", "pattern": INSTANT_PATTERN}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number, or its text. JSON Schema's `multipleOf` is useless for decimals in binary floats."""
        places, digits = schema.get("decimal_places"), schema.get("max_digits")
        if places is None or digits is None:
            return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?[0-9]+(?:\.[0-9]+)?$"}]}
        limits = {
            keyword: _plain(bound)
            for keyword, name in (("minimum", "ge"), ("exclusiveMinimum", "gt"))
            if (bound := schema.get(name)) is not None
        }
        below = 10 ** (digits - places)
        return {
            "anyOf": [
                {"type": "number", **limits, "exclusiveMaximum": below},
                {"type": "string", "pattern": decimal_pattern(digits - places, places, limits)},
            ]
        }

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # "Task Id" for task_id says nothing


def decimal_pattern(whole: int, places: int, limits: dict[str, float]) -> str:
    """Plain decimals (no sign, no exponent, no leading zeros) of at most so many digits, from 0 or 1 up."""
    fraction = rf"(?:\.[0-9]{{1,{places}}})?"
    from_one = rf"[1-9][0-9]{{0,{whole - 1}}}{fraction}"
    if limits.get("minimum", 0) >= 1:
        return f"^{from_one}$"
    if "exclusiveMinimum" not in limits:
        return f"^(?:0{fraction}|{from_one})$"
    small = [f"{'0' * n}[1-9][0-9]{{0,{places - n - 1}}}" for n in range(places - 1)]
    return rf"^(?:0\.(?:{'|'.join(small)}|{'0' * (places - 1)}[1-9])|{from_one})$"


def _plain(bound: Any) -> float:
    return int(bound) if bound == int(bound) else float(bound) if isinstance(bound, Decimal) else bound


def schemas_of(events: Iterable[type[Event]]) -> tuple[dict[type[Event], str], dict[str, Any]]:
    """(the name of each event's schema, all schemas by name)."""
    classes = list(events)
    names, document = models_json_schema(
        [(cls, "validation") for cls in classes], ref_template=REF + "{model}", schema_generator=Exact
    )
    definitions: dict[str, Any] = {name: _tidied(schema) for name, schema in document["$defs"].items()}
    names_by_class = {cls: names[(cls, "validation")]["$ref"].removeprefix(REF) for cls in classes}
    for name in names_by_class.values():
        definitions[name] = _as_cloud_event(definitions[name])
    if any(_mentions(schema, REF + _JSON_VALUE) for schema in definitions.values()):
        definitions[_JSON_VALUE] = _json_value()
    return names_by_class, dict(sorted(definitions.items()))


def _as_cloud_event(schema: dict[str, Any]) -> dict[str, Any]:
    """An envelope names its version and its type: their defaults are for code, not for producers."""
    properties = dict(schema["properties"])
    for name in ("specversion", "type"):
        properties[name] = {key: value for key, value in properties[name].items() if key != "default"}
    first = ("specversion", "id", "source", "type", "time", "data")
    required = [name for name in first if name in properties]
    ordered = {name: properties[name] for name in (*first, *(n for n in properties if n not in first))}
    return {**schema, "properties": ordered, "required": required}


def _tidied(schema: Any) -> Any:
    """The same rules in fewer words, in draft-07."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidied(value) for key, value in schema.items()}
    if isinstance(tidy.get("discriminator"), dict):
        del tidy["discriminator"]  # AsyncAPI's is a string; the members' `const`s tell them apart
    if "prefixItems" in tidy:
        tidy["items"] = tidy.pop("prefixItems")
    if isinstance(tidy.get("description"), str):
        tidy["description"] = " ".join(tidy["description"].split())
    if tidy.get("default", ...) is None:
        del tidy["default"]
    if tidy.get("type") == "object" and tidy.get("additionalProperties") is True:
        tidy["additionalProperties"] = {"$ref": REF + _JSON_VALUE}
        tidy["propertyNames"] = {"pattern": _NO_NUL}
    return _ordered(_nullable(tidy))


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    """Keywords in the order that one reads them; names of properties stay as they are."""
    if not {"type", "$ref", "anyOf"} & set(schema):
        return schema
    middle = [key for key in schema if key not in (*_FIRST, *_LAST)]
    return {key: schema[key] for key in (*_FIRST, *middle, *_LAST) if key in schema}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """`anyOf [X, null]` as `type: [x, null]`, where X is plain."""
    match schema.get("anyOf"):
        case [{"type": str() as kind} as plain, {"type": "null"}] if not {"enum", "const"} & set(plain):
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            return {**plain, "type": [kind, "null"], **rest}
        case _:
            return schema


def _json_value() -> dict[str, Any]:
    value = {"$ref": REF + _JSON_VALUE}
    return {
        "title": _JSON_VALUE,
        "description": "Any JSON that PostgreSQL's jsonb can hold: no text with the character U+0000.",
        "anyOf": [
            {"type": ["null", "boolean", "number"]},
            {"type": "string", "pattern": _NO_NUL},
            {"type": "array", "items": value},
            {"type": "object", "propertyNames": {"pattern": _NO_NUL}, "additionalProperties": value},
        ],
    }


def _mentions(schema: Any, reference: str) -> bool:
    if isinstance(schema, dict):
        return schema.get("$ref") == reference or any(_mentions(v, reference) for v in schema.values())
    return isinstance(schema, list) and any(_mentions(item, reference) for item in schema)
