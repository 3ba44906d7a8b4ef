"""Leases and stamps in Redis: one round trip each for look, acquire, fill, release, claim and replace, of
one key or of many.

Scripts go as EVAL: they are short, Redis keeps them compiled by their digest, and a restarted or
failed-over server needs no second trip for a script that it has lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from streams.cache.entry import (
    REFRESH_AT,
    TIME_BYTES,
    TOKEN_BYTES,
    Entry,
    Lease,
    encode_time,
    new_token,
    stamps_of,
)
from streams.cache.found import Want
from streams.cache.link import Command, Link, Reply

# A value is replaced only by somebody who has seen it and found it dead. The first comparison is for a
# command that the client sent twice because its connection broke.
_ACQUIRE: Final = f"""
local held = redis.call('GET', KEYS[1])
if held then
    local token = string.sub(held, 2, {TOKEN_BYTES + 1})
    if token ~= string.sub(ARGV[1], 2, {TOKEN_BYTES + 1}) and token ~= ARGV[2] then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return false
"""
_FILL: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_RELEASE: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
# Whoever moves the time of an entry's refresh is the one who loads it anew.
_CLAIM: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
if redis.call('GETRANGE', KEYS[1], {REFRESH_AT}, {REFRESH_AT + TIME_BYTES - 1}) ~= ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], {REFRESH_AT}, ARGV[3])
return 1
"""
# No invalidation of the key can have come while the entry stands that was there before the load.
_REPLACE: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

Stamps = tuple[bytes, ...]
Seen = tuple[bytes | None, ...]


def tag_key(tag: str) -> str:
    return f"tag:{tag}"


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands under a key, the present stamps of its tags, and the epoch of the key's server."""

    raw: bytes | None
    stamps: Seen
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Dead:
    """A key that holds nothing of use: who wants it, what it looked like, and the token of what is there."""

    want: Want
    looked: Looked
    token: bytes
    stamp_ms: int
    """How long a stamp that is missing is to live."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """A lease, the stamps that are complete now, and whether it is ours: not if the key or a tag is with
    another server by now, or somebody else was faster."""

    lease: Lease
    stamps: Stamps
    ours: bool


class Leases:
    """The commands of the protocol. Every method raises what `Link` raises."""

    def __init__(self, link: Link, *, lease_ms: int) -> None:
        self._link = link
        self._lease_ms = lease_ms

    async def look(self, wants: Sequence[Want]) -> list[Looked]:
        """What stands under each of these keys.

        GETEX and not GET: a server that takes no writes (a master that was demoted, or cut off from the
        replicas that it must have) refuses it, and hears of no invalidation, either.
        """
        commands: list[Command] = []
        for want in wants:
            commands.append(("GETEX", want.key))
            commands += [("GETEX", tag_key(tag)) for tag in want.tags]
        replies = iter(await self._link.ask(*commands))
        return [_looked(next(replies), _take(replies, len(want.tags))) for want in wants]

    async def acquire(self, keys: Sequence[Dead]) -> list[Acquired]:
        """Take the lease of each, unless the key holds something else than what was seen to be dead.

        Stamps that are missing are made first: never from a fixed value, which an entry of before the
        loss might hold.
        """
        commands: list[Command] = []
        made: list[tuple[Lease, list[bytes]]] = []
        for dead in keys:
            tags = zip(dead.want.tags, dead.looked.stamps, strict=True)
            missing = [(tag, new_token()) for tag, stamp in tags if stamp is None]
            commands += [("SET", tag_key(t), s, "NX", "GET", "PX", dead.stamp_ms) for t, s in missing]
            lease = Lease(new_token(), dead.looked.epoch)
            commands.append(("EVAL", _ACQUIRE, 1, dead.want.key, lease.encode(), dead.token, self._lease_ms))
            made.append((lease, [stamp for _, stamp in missing]))
        replies = iter(await self._link.ask(*commands))
        found = []
        for dead, (lease, fresh) in zip(keys, made, strict=True):
            stamps = _completed(dead.looked.stamps, fresh, _take(replies, len(fresh)))
            held, epoch = next(replies)
            found.append(Acquired(lease, stamps, held is None and epoch == dead.looked.epoch))
        return found

    async def fill(self, key: str, lease: Lease, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        """Store a value if the lease still stands; whether it did."""
        return await self._store((_FILL, 1, key, lease.encode()), tags, entry, ttl_ms)

    async def fill_all(self, filling: Sequence[tuple[Want, Lease, Entry, int]]) -> list[bool]:
        """Store values, each with its lease and its milliseconds to live; which of them were stored."""
        commands: list[Command] = []
        for want, lease, entry, ttl_ms in filling:
            commands += _storing((_FILL, 1, want.key, lease.encode()), want.tags, entry, ttl_ms)
        replies = iter(await self._link.ask(*commands))
        stored = []
        for want, _, entry, _ in filling:
            stored.append(_is_stored(next(replies), entry))
            _take(replies, len(want.tags))
        return stored

    async def replace(self, key: str, token: bytes, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        """Store a value if the entry of this token still stands; whether it did."""
        return await self._store((_REPLACE, 1, key, token), tags, entry, ttl_ms)

    async def claim(self, key: str, entry: Entry, until: int) -> bool:
        """Be the only one to refresh an entry until then; whether we are."""
        seen, moved = encode_time(entry.refresh), encode_time(until)
        ((claimed, epoch),) = await self._link.ask(("EVAL", _CLAIM, 1, key, entry.token, seen, moved))
        return bool(claimed) and epoch == entry.epoch

    def claim_until(self, now: int) -> int:
        """When others may claim a refresh that is claimed now and then not carried out."""
        return now + self._lease_ms

    async def release(self, *held: tuple[str, bytes]) -> None:
        """Remove the leases or entries of these keys that have these tokens."""
        await self._link.ask(*(("EVAL", _RELEASE, 1, key, token) for key, token in held))

    async def forget(self, names: Sequence[str]) -> None:
        """Take away values, leases and stamps."""
        await self._link.unlink(names)

    async def _store(self, condition: Command, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        replies = await self._link.ask(*_storing(condition, tags, entry, ttl_ms))
        return _is_stored(replies[0], entry)


def _storing(condition: Command, tags: Sequence[str], entry: Entry, ttl_ms: int) -> list[Command]:
    return [
        ("EVAL", *condition, entry.encode(), ttl_ms),
        # A stamp lives as long as the longest of its entries.
        *(("PEXPIRE", tag_key(tag), ttl_ms, "GT") for tag in tags),
    ]


def _is_stored(reply: Reply, entry: Entry) -> bool:
    stored, epoch = reply
    return bool(stored) and epoch == entry.epoch


def _looked(reply: Reply, stamps: Sequence[Reply]) -> Looked:
    raw, epoch = reply
    return Looked(raw, stamps_of(stamps), epoch)


def _completed(seen: Seen, fresh: Sequence[bytes], made: Sequence[Reply]) -> Stamps:
    """The stamps, those that were missing from what was made, or from who was faster."""
    new = iter(
        [(stamp if other is None else other) + at for stamp, (other, at) in zip(fresh, made, strict=True)]
    )
    return tuple(next(new) if stamp is None else stamp for stamp in seen)


def _take(replies: Iterator[Reply], count: int) -> list[Reply]:
    return [next(replies) for _ in range(count)]
