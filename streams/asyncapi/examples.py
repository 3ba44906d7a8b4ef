"""One example of each schema: the first example that a field names, or a value that its rules allow.

A field of a handler outside this project needs no `examples`: then its default, or something plain that
fits its type, stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streams.asyncapi.payloads import REF

_A_UUID: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
_AN_INSTANT: Final = "2026-01-15T09:30:00Z"
_BY_FORMAT: Final = {"uuid": _A_UUID, "date-time": _AN_INSTANT, "date": _AN_INSTANT[:10]}
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OWN_SOURCE: Final = "agent-streams"


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that the schema allows. Fields that are optional and name no example are left out."""
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(REF)], schemas)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if "enum" in schema:
        return schema["enum"][0]
    if "type" not in schema and "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas)
    return _by_type(schema, schemas)


def _by_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            required = schema.get("required", ())
            return {
                name: example_of(field, schemas)
                for name, field in schema.get("properties", {}).items()
                if name in required or field.get("examples")
            }
        case "array":
            items = schema.get("items", {})
            return [example_of(items, schemas)] * schema.get("minItems", 0) if isinstance(items, dict) else []
        case "string":
            return _BY_FORMAT.get(schema.get("format", ""), "text".ljust(schema.get("minLength", 0), "."))
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case _:
            return None
