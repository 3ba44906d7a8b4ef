"""What stands under a key in Redis: a lease while a value is being loaded, then the entry itself.

    L token                                  a lease
    E token count stamp* value               an entry: the lease's token, then the stamps of its tags

Both live under one key, so that every script touches one slot of a Redis Cluster, and one DEL of that key
takes away the value as well as the right of whoever is loading it to store one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

TOKEN_BYTES: Final = 12
"""Length of tokens and of stamps: random, so that none is ever met twice."""

LEASE: Final = b"L"
_ENTRY: Final = b"E"
_HEAD: Final = 1 + TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class Lease:
    token: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    token: bytes
    stamps: tuple[bytes, ...]
    value: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Written by somebody else, or by another version of us: to be replaced."""

    token: bytes


def new_token() -> bytes:
    return os.urandom(TOKEN_BYTES)


def encode(token: bytes, stamps: Sequence[bytes], value: bytes) -> bytes:
    return b"".join((_ENTRY, token, bytes((len(stamps),)), *stamps, value))


def decode(raw: bytes | None) -> Lease | Entry | Unreadable | None:
    if raw is None:
        return None
    token = raw[1:_HEAD]
    if raw[:1] == LEASE and len(raw) == _HEAD:
        return Lease(token)
    if raw[:1] == _ENTRY and len(raw) > _HEAD:
        end = _HEAD + 1 + raw[_HEAD] * TOKEN_BYTES
        if len(raw) >= end:
            stamps = tuple(raw[at : at + TOKEN_BYTES] for at in range(_HEAD + 1, end, TOKEN_BYTES))
            return Entry(token, stamps, raw[end:])
    return Unreadable(token)
