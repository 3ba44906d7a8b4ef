"""Cache keys, tags and times to live, defined once for writers, updaters and readers."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Final
from uuid import UUID

KEY_PATTERN: Final = r"^(u|ag|t|s|stats:ag|lb|ut|q):[A-Za-z0-9_.:-]{1,160}$"
"""Keys that an invalidation may name.

Locks, rate limits, the stamps of tags and the parts of leaderboards (braces) are nobody's to invalidate."""

TAG_PATTERN: Final = r"^[a-z]{1,20}(:[A-Za-z0-9_.-]{1,100}){0,3}$"


class Period(StrEnum):
    """The leaderboards' periods, by UTC calendar; weeks start on Monday."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    ALL_TIME = "all_time"


class Ttl:
    """Times to live in seconds, from the guide's table."""

    USER_PROFILE: Final = 3600
    SESSION: Final = 1800
    AGENT_STATE: Final = 300
    AGENT_METRICS: Final = 60
    QUERY_RESULT: Final = 600
    TASK_RESULT: Final = 86_400  # of a task that has ended
    LOCK: Final = 30
    RATE_LIMIT: Final = 60
    LEADERBOARD: Final = 3600


def ttl_by_age(seconds_since_change: float) -> int:
    """Seconds to keep a value that changed this long ago: what changed lately will change again."""
    if seconds_since_change < 60:
        return 300
    if seconds_since_change < 3600:
        return 1800
    return 3600


def is_strict(key: str) -> bool:
    """Whether a value must neither be held in a process's memory, which hears of changes a little later than
    Redis, nor stand in beyond its time while the database is down: sessions, since they can be revoked."""
    return key.startswith("s:")


def user_key(user_id: UUID) -> str:
    return f"u:{user_id}"


AGENT_PREFIX: Final = "ag:"
TASK_PREFIX: Final = "t:"
SCORE_PREFIX: Final = "score:"


def agent_key(agent_id: UUID) -> str:
    return f"{AGENT_PREFIX}{agent_id}"


def task_key(task_id: UUID) -> str:
    return f"{TASK_PREFIX}{task_id}"


def session_key(session_id: UUID) -> str:
    return f"s:{session_id}"


def session_token_key(token_hash: bytes) -> str:
    """What the read API keeps of a session: all it knows of one is the SHA-256 of its token."""
    return f"s:{token_hash.hex()}"


def agent_stats_key(agent_id: UUID) -> str:
    return f"stats:ag:{agent_id}"


def leaderboard_key(period: Period, start: date | None = None) -> str:
    """`lb:all_time`, or `lb:daily:2026-11-23`: the period and the day it starts on."""
    return f"lb:{period}" if start is None else f"lb:{period}:{start.isoformat()}"


def board_key(period: Period, start: date, part: str) -> str:
    """A part of a leaderboard that is kept as a sorted set; all parts of one are in one slot of a cluster.

    Args:
        start: the period's first day; of all time, the first of the month that it is kept by.
    """
    return f"lb:{{{period}:{start.isoformat()}}}:{part}"


def user_tasks_key(user_id: UUID) -> str:
    return f"ut:{user_id}"


def query_key(digest: str) -> str:
    return f"q:{digest}"


def round_key(round_id: UUID) -> str:
    return f"q:round:{round_id}"


def lock_key(resource: str) -> str:
    return f"lock:{resource}"


def rate_limit_key(subject: UUID | str, action: str) -> str:
    """`subject` is a user, or what stands for a client that is none."""
    return f"rl:{subject}:{action}"


def agent_tag(agent_id: UUID) -> str:
    """Everything computed from one agent's tasks, votes or scores."""
    return f"agent:{agent_id}"


def user_tag(user_id: UUID) -> str:
    """Everything computed from one user's tasks."""
    return f"user:{user_id}"


def round_tag(round_id: UUID) -> str:
    """Everything computed from one round's votes."""
    return f"round:{round_id}"


def score_tag(agent_id: UUID, day: date) -> str:
    """What is computed from an agent's score of one day; told for days before the current month only."""
    return f"{SCORE_PREFIX}{agent_id}:{day.isoformat()}"


AGENTS_TAG: Final = "agents"
"""Lists of agents."""

LEADERBOARDS_TAG: Final = "leaderboards"
"""Everything computed from scores."""
