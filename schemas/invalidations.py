"""Invalidations: what caches must forget, from us and from services that own other entities."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from schemas.cache import KEY_PATTERN, TAG_PATTERN
from schemas.envelope import Data, Event
from schemas.fields import Text

CacheKey = Annotated[str, StringConstraints(max_length=200, pattern=KEY_PATTERN)]
CacheTag = Annotated[str, StringConstraints(max_length=200, pattern=TAG_PATTERN)]


_NAMES_SOMETHING: Final[dict[str, Any]] = {
    "if": {"properties": {"keys": {"maxItems": 0}}},
    "then": {"required": ["tags"], "properties": {"tags": {"minItems": 1}}},
}
"""In JSON Schema: without a key there must be a tag."""


class InvalidatedData(Data):
    model_config = ConfigDict(json_schema_extra=_NAMES_SOMETHING)

    keys: Annotated[
        tuple[CacheKey, ...], Field(max_length=10_000, examples=[["t:019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"]])
    ] = ()
    """Keys whose values are stale."""
    tags: Annotated[
        tuple[CacheTag, ...],
        Field(max_length=10_000, examples=[["agent:7c9e6679-7425-40de-944b-e07fc1f90ae7"]]),
    ] = ()
    """Tags: every value that was filled under one of them is stale."""
    reason: Annotated[Text | None, Field(examples=["profile edited"])] = None
    """For people."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.keys and not self.tags:
            raise ValueError("must name one key or one tag at least")
        return self


class CacheInvalidated(Event):
    """Caches must forget these keys and tags. One key or one tag at least."""

    exchange: ClassVar[str] = "invalidations"
    entity: ClassVar[str] = ""
    type: Literal["cache.invalidated"] = "cache.invalidated"
    data: InvalidatedData


class AppliedData(Data):
    keys: Annotated[tuple[CacheKey, ...], Field(examples=[["t:019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"]])] = ()
    """Keys whose values are gone."""
    tags: Annotated[
        tuple[CacheTag, ...], Field(examples=[["agent:7c9e6679-7425-40de-944b-e07fc1f90ae7"]])
    ] = ()
    """Tags whose values are gone."""
    causes: Annotated[tuple[str, ...], Field(examples=[["019bc0fd-8abb-7b1c-8f00-1c2d3e4f5a6b:0"]])] = ()
    """Ids of the invalidation events that are in effect now."""


class CacheApplied(Event):
    """Broadcast by updaters once Redis has applied an invalidation; in-process caches listen."""

    exchange: ClassVar[str] = "cache-bus"
    entity: ClassVar[str] = ""
    mandatory: ClassVar[bool] = False
    type: Literal["cache.applied"] = "cache.applied"
    data: AppliedData
