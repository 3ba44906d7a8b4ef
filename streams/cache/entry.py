"""What stands under a key in Redis: a lease while a value is being loaded, then the entry itself.

    l token epoch                                        a lease
    e token epoch expires refresh count stamp* value     an entry: the lease's token, then what it depends on

Both live under one key, so that every script touches one slot of a Redis Cluster, and one DEL of that key
takes away the value as well as the right of whoever is loading it to store one.

The epoch is that of the server which granted the lease (epoch.py); a stamp is the tag's, followed by the
epoch of the server that holds the tag. Times are milliseconds since 1970, big endian, on the readers' clocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streams.cache.epoch import EPOCH_BYTES

TOKEN_BYTES: Final = 12
"""Length of tokens and of stamps: random, so that none is ever met twice."""

STAMP_BYTES: Final = TOKEN_BYTES + EPOCH_BYTES
TIME_BYTES: Final = 6
REFRESH_AT: Final = 1 + TOKEN_BYTES + EPOCH_BYTES + TIME_BYTES
"""Where in an entry it says when somebody should load it anew."""

_LEASE: Final = b"l"
_ENTRY: Final = b"e"
_AFTER_TOKEN: Final = 1 + TOKEN_BYTES
_LEASE_BYTES: Final = _AFTER_TOKEN + EPOCH_BYTES
_COUNT_AT: Final = REFRESH_AT + TIME_BYTES


@dataclass(frozen=True, slots=True)
class Lease:
    token: bytes
    epoch: bytes

    def encode(self) -> bytes:
        return b"".join((_LEASE, self.token, self.epoch))


@dataclass(frozen=True, slots=True)
class Entry:
    token: bytes
    epoch: bytes
    expires: int
    """When it is too old to be taken for the present value without a word."""
    refresh: int
    """From when on somebody should load it anew, in the background."""
    stamps: tuple[bytes, ...]
    value: bytes

    def encode(self) -> bytes:
        times = encode_time(self.expires) + encode_time(self.refresh)
        count = bytes((len(self.stamps),))
        return b"".join((_ENTRY, self.token, self.epoch, times, count, *self.stamps, self.value))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Written by somebody else, or by another version of us: to be replaced."""

    token: bytes


def new_token() -> bytes:
    return os.urandom(TOKEN_BYTES)


def encode_time(milliseconds: int) -> bytes:
    return milliseconds.to_bytes(TIME_BYTES, "big")


def decode(raw: bytes | None) -> Lease | Entry | Unreadable | None:
    if raw is None:
        return None
    token = raw[1:_AFTER_TOKEN]
    if raw[:1] == _LEASE and len(raw) == _LEASE_BYTES:
        return Lease(token, raw[_AFTER_TOKEN:])
    if raw[:1] == _ENTRY and len(raw) > _COUNT_AT:
        return _entry(raw, token) or Unreadable(token)
    return Unreadable(token)


def stamps_of(parts: Sequence[tuple[bytes | None, bytes]]) -> tuple[bytes | None, ...]:
    """What entries record of tags: the stamp, if there is one, and the epoch of the server that told it."""
    return tuple(None if stamp is None else stamp + epoch for stamp, epoch in parts)


def _entry(raw: bytes, token: bytes) -> Entry | None:
    first = _COUNT_AT + 1
    end = first + raw[_COUNT_AT] * STAMP_BYTES
    if len(raw) < end:
        return None
    return Entry(
        token,
        raw[_AFTER_TOKEN:_LEASE_BYTES],
        int.from_bytes(raw[_LEASE_BYTES:REFRESH_AT], "big"),
        int.from_bytes(raw[REFRESH_AT:_COUNT_AT], "big"),
        tuple(raw[at : at + STAMP_BYTES] for at in range(first, end, STAMP_BYTES)),
        raw[end:],
    )
