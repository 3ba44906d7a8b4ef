"""Who may read what, and how often: bearer tokens, roles, rate limits.

A session with the role `operator` reads everything; any other its own user's tasks, and what belongs to no
single user: agents, rounds, votes, leaderboards.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b, sha256
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
from litestar.datastructures import Headers
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from handlers.problems import (
    FORBIDDEN,
    NOT_FOUND,
    RATE_LIMITED,
    TOO_MANY_FAILURES,
    UNAUTHORIZED,
    Refused,
)
from handlers.reads import Reads
from schemas.cache import rate_limit_key

OPERATOR: Final = "operator"
_MAX_TOKEN: Final = 1024
_REMEMBERED: Final = 10_000
_REMEMBER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests a second on average, and so many at once after a pause."""

    rate: float
    burst: int

    @property
    def window(self) -> int:
        """Seconds in which a quota that is used up fills again."""
        return max(1, math.ceil(self.burst / self.rate))


FAILURES: Final = Quota(rate=1.0, burst=20)
"""Wrong tokens of one address."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a limiter says.

    Args:
        remaining: requests that may follow at once.
        retry_after: seconds until the next one may come; 0 if this one may.
        reset: seconds until the quota is whole again.
    """

    allowed: bool
    remaining: int
    retry_after: float
    reset: float


class Limiter(Protocol):
    """What the API needs of `streams.ratelimit.RateLimiter`; without Redis it limits locally."""

    async def take(self, key: str, quota: Quota) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. Without tokens everybody sees everything."""

    user_id: UUID | None = None
    sees_all: bool = True

    def confine(self, user_id: UUID | None) -> UUID | None:
        """The user whose tasks are read when those of `user_id` (None: of anybody) are asked for.

        Raises:
            Refused: they are another user's.
        """
        if self.sees_all or user_id == self.user_id:
            return user_id
        if user_id is not None:
            raise Refused(FORBIDDEN, f"tasks of other users are for sessions with the role `{OPERATOR}`")
        return self.user_id

    def check(self, task: bytes | None) -> None:
        """Look at a task, as JSON, before it is shown.

        Raises:
            Refused: it is not this viewer's. As if it did not exist: ids are nobody's to try out.
        """
        if self.sees_all or task is None:
            return
        if orjson.loads(task)["user_id"] != str(self.user_id):
            raise Refused(NOT_FOUND, "no such thing is known here")


class Access(ASGIMiddleware):
    """Lets those pass who may, as often as they may. The `Viewer` becomes the request's `user`.

    Args:
        is_open: nobody needs a token.
        quota: of a user, or where there is none of an address; None for no limit.
    """

    def __init__(self, reads: Reads, limiter: Limiter, quota: Quota | None, *, is_open: bool) -> None:
        self._sessions = None if is_open else Sessions(reads, limiter)
        self._limiter = limiter
        self._quota = quota

    def __deepcopy__(self, _: object) -> Access:
        return self  # Litestar copies what a router is given; what is in here cannot be, and is one for all

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope.get("method") == "OPTIONS":  # asks what the route can do, and reads nothing
            await next_app(scope, receive, send)
            return
        viewer = Viewer() if self._sessions is None else await self._sessions.viewer_of(scope)
        scope["user"] = viewer
        if self._quota is not None:
            await self._limit(scope, viewer, self._quota)
        await next_app(scope, receive, send)

    async def _limit(self, scope: Scope, viewer: Viewer, quota: Quota) -> None:
        subject = viewer.user_id or subject_of(scope)
        verdict = await self._limiter.take(rate_limit_key(subject, "read"), quota)
        # draft-ietf-httpapi-ratelimit-headers-10
        scope["state"]["rate_limit"] = [
            (b"ratelimit-policy", b'"read";q=%d;w=%d' % (quota.burst, quota.window)),
            (b"ratelimit", b'"read";r=%d;t=%d' % (verdict.remaining, math.ceil(verdict.reset))),
        ]
        if not verdict.allowed:
            detail = f"at most {quota.rate:g} requests a second, {quota.burst} at once"
            raise Refused(RATE_LIMITED, detail, headers=_retry(verdict))


class Sessions:
    """From a bearer token to who sent it; wrong ones are counted by address.

    An address that sends too many is refused before anything is looked up, but for tokens that were good
    here lately: who shares the address with an attacker, or a client whose session is over, reads on.
    """

    def __init__(self, reads: Reads, limiter: Limiter) -> None:
        self._reads = reads
        self._limiter = limiter
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()

    async def viewer_of(self, scope: Scope) -> Viewer:
        """Who sent the request.

        Raises:
            Refused: nobody we know.
        """
        scheme, _, token = Headers.from_scope(scope).get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_TOKEN:
            raise _unauthorized("send a session's token: Authorization: Bearer <token>")
        token_hash = sha256(token.encode()).digest()
        subject = subject_of(scope)
        now = time.monotonic()
        blocked = self._blocked.get(subject, 0.0) - now
        if blocked > 0 and self._good.get(token_hash, 0.0) < now:
            raise Refused(TOO_MANY_FAILURES, TOO_MANY_FAILURES.meaning, headers=_seconds(blocked))
        session = await self._reads.session(token_hash)
        if session is None:
            self._good.pop(token_hash, None)
            await self._count_failure(subject, now)
            raise _unauthorized("the token belongs to no session, or to one that is over")
        _remember(self._good, token_hash, now + _REMEMBER_SECONDS)
        return Viewer(session.user_id, OPERATOR in session.roles)

    async def _count_failure(self, subject: str, now: float) -> None:
        verdict = await self._limiter.take(rate_limit_key(subject, "auth"), FAILURES)
        if not verdict.allowed:
            _remember(self._blocked, subject, now + verdict.retry_after)
            raise Refused(TOO_MANY_FAILURES, TOO_MANY_FAILURES.meaning, headers=_retry(verdict))


def subject_of(scope: Scope) -> str:
    """Whom to count a request for that has no user: a digest of its address, of IPv6 the network's /64."""
    client: Any = scope.get("client")
    address = str(client[0]) if client else ""
    try:
        parsed = ip_address(address)
    except ValueError:
        network = address
    else:
        network = str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else str(parsed)
    return f"at-{blake2b(network.encode(), digest_size=8).hexdigest()}"


def _remember(times: OrderedDict[Any, float], key: str | bytes, until: float) -> None:
    times[key] = until
    times.move_to_end(key)
    while len(times) > _REMEMBERED:
        times.popitem(last=False)


def _unauthorized(detail: str) -> Refused:
    return Refused(UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def _retry(verdict: Verdict) -> dict[str, str]:
    return _seconds(verdict.retry_after)


def _seconds(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
