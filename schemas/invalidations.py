"""Invalidations: what caches must forget, from us and from services that own other entities."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.cache import KEY_PATTERN, TAG_PATTERN
from schemas.envelope import Data, Event
from schemas.fields import Text

CacheKey = Annotated[str, StringConstraints(max_length=200, pattern=KEY_PATTERN)]
CacheTag = Annotated[str, StringConstraints(max_length=200, pattern=TAG_PATTERN)]


class InvalidatedData(Data):
    keys: Annotated[tuple[CacheKey, ...], Field(max_length=10_000)] = ()
    tags: Annotated[tuple[CacheTag, ...], Field(max_length=10_000)] = ()
    reason: Text | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.keys and not self.tags:
            raise ValueError("must name one key or one tag at least")
        return self


class CacheInvalidated(Event):
    exchange: ClassVar[str] = "invalidations"
    entity: ClassVar[str] = ""
    type: Literal["cache.invalidated"] = "cache.invalidated"
    data: InvalidatedData


class AppliedData(Data):
    keys: tuple[CacheKey, ...] = ()
    tags: tuple[CacheTag, ...] = ()
    causes: tuple[str, ...] = ()
    """Ids of the invalidation events that are in effect now."""


class CacheApplied(Event):
    """Broadcast by updaters once Redis has applied an invalidation; in-process caches listen."""

    exchange: ClassVar[str] = "cache-bus"
    entity: ClassVar[str] = ""
    mandatory: ClassVar[bool] = False
    type: Literal["cache.applied"] = "cache.applied"
    data: AppliedData
