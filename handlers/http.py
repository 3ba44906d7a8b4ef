"""Answers that all routes share: bodies with cache headers, and 304 where the client has them already."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response

from handlers.problems import NOT_FOUND, Refused
from handlers.reads import Found

AnyRequest = Request[Any, Any, Any]

_RawObject = dict[str, msgspec.Raw]
_decode_object: Final = msgspec.json.Decoder(_RawObject).decode
_decode_objects: Final = msgspec.json.Decoder(list[_RawObject]).decode

# RFC 9211, by where a value came from.
_CACHE_STATUS: Final = {
    "hit": "agent-streams; hit",
    "miss": "agent-streams; fwd=miss; stored",
    "stale": "agent-streams; hit; detail=stale",
    "bypass": "agent-streams; fwd=bypass",
}
_X_CACHE: Final = {"memory": "hit", "redis": "hit", "database": "miss"}


def answer(request: AnyRequest, found: Found, *, body: bytes | None = None) -> Response[bytes]:
    """200 with what was found, 304 where the client has it already.

    Args:
        body: sent instead of the found value, of which it is a part.

    Raises:
        Refused: nothing was found.
    """
    if found.value is None:
        raise Refused(NOT_FOUND, "no such thing is known here")
    body = found.value if body is None else body
    # Weak: the same tag stands for the compressed and the plain form.
    etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    state = "stale" if found.stale else _X_CACHE.get(found.source, "bypass")
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "X-Cache": state,
        "Cache-Status": _CACHE_STATUS[state],
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def pick(found: Found, names: Sequence[str] | None) -> bytes | None:
    """Some fields of a JSON object that was found, to the byte; None for all of them."""
    if names is None or found.value is None:
        return None
    row = _decode_object(found.value)
    return msgspec.json.encode({name: row[name] for name in names})


def pick_each(found: Found, member: str, names: Sequence[str] | None) -> bytes | None:
    """Some fields of each object in a member of the object that was found; None for all of them."""
    if names is None or found.value is None:
        return None
    whole: dict[str, Any] = dict(_decode_object(found.value))
    whole[member] = [{name: row[name] for name in names} for row in _decode_objects(whole[member])]
    return msgspec.json.encode(whole)


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    bare = etag.removeprefix("W/")
    return any(tag.strip().removeprefix("W/") in ("*", bare) for tag in header.split(","))
