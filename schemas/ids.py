"""Identifiers: UUIDv7 as the contract wants them, and the digest that de-duplication goes by."""

from __future__ import annotations

import os
import time
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from schemas.fields import microseconds

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = ((1 << 12) - 1) << 64
_RANDOM_B = (1 << 62) - 1


def _uuid7(milliseconds: int, random: bytes) -> UUID:
    noise = int.from_bytes(random[:10], "big")
    return UUID(int=milliseconds << 80 | _VERSION_7 | noise & _RANDOM_A | _VARIANT | noise & _RANDOM_B)


def uuid7() -> UUID:
    """A new UUIDv7 (RFC 9562): 48 bits of milliseconds since 1970, then random bits."""
    return _uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def derive_id(created_at: datetime, old_id: str) -> UUID:
    """The UUIDv7 for an entity whose own system gave it an id of another kind.

    The recipe, for any language: 48 bits of `created_at` in milliseconds since 1970, then the first
    80 bits of BLAKE2b-128 over the old id in UTF-8, with version 7 and variant 10 set over them.
    The same input always gives the same id.
    """
    return _uuid7(microseconds(created_at) // 1000, blake2b(old_id.encode(), digest_size=16).digest())


def claim_key(source: str, event_id: str) -> bytes:
    """What de-duplication remembers of an event: BLAKE2b-128 over source, NUL and id in UTF-8.

    Sixteen bytes, which sort as PostgreSQL sorts the uuid that they are stored as."""
    return blake2b(f"{source}\0{event_id}".encode(), digest_size=16).digest()
