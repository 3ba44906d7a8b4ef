"""From an error to what is done about it: one pure table.

TRANSIENT    roll back, wait a little, run the same batch again
ENVIRONMENT  nothing is wrong with the events: pause, wait for the world to be repaired, resume
DATA         an event is to blame: bisect, quarantine the culprit
UNKNOWN      a handler's bug, most likely: bisect too, but pause when everything fails alike
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

import asyncpg
from aio_pika import exceptions as amqp_errors
from redis import exceptions as redis_errors

from schemas.errors import EventError, Reason, RetryBatch, Unavailable
from streams.refusal import reason


class Verdict(StrEnum):
    TRANSIENT = "transient"
    ENVIRONMENT = "environment"
    DATA = "data"
    UNKNOWN = "unknown"


# SQLSTATEs, the longest prefix wins (https://www.postgresql.org/docs/current/errcodes-appendix.html). What is
# not here is UNKNOWN: a handler's SQL is wrong, or wrong for one event.
_BY_SQLSTATE: Final = {
    "08": Verdict.TRANSIENT,  # connection lost
    "22": Verdict.DATA,
    "23": Verdict.DATA,
    "25006": Verdict.ENVIRONMENT,  # read-only: a standby after a failover
    "25P03": Verdict.TRANSIENT,  # idle_in_transaction_session_timeout: our own stall
    "25P04": Verdict.TRANSIENT,  # transaction_timeout; see _ONCE
    "26": Verdict.TRANSIENT,  # a prepared statement that this backend does not know: another one answers now
    "28": Verdict.ENVIRONMENT,  # the password was changed
    "3D": Verdict.ENVIRONMENT,
    "3F": Verdict.ENVIRONMENT,
    "40": Verdict.TRANSIENT,  # deadlock, serialization failure (a row moved), unknown commit
    "42501": Verdict.ENVIRONMENT,  # a grant that lacks
    "42703": Verdict.ENVIRONMENT,  # a column,
    "42704": Verdict.ENVIRONMENT,  # type,
    "42883": Verdict.ENVIRONMENT,  # function
    "42P01": Verdict.ENVIRONMENT,  # or table that is not migrated yet
    "53": Verdict.ENVIRONMENT,  # disk full, out of memory, too many connections
    "54": Verdict.DATA,  # a limit of the row, not of the machine
    "55": Verdict.ENVIRONMENT,  # an object in a state that an operator is changing
    "55P03": Verdict.TRANSIENT,  # lock_timeout
    "57014": Verdict.TRANSIENT,  # statement_timeout; see _ONCE
    "57P": Verdict.ENVIRONMENT,  # shut down, starting up
    "58": Verdict.ENVIRONMENT,  # I/O error
    "72": Verdict.TRANSIENT,  # snapshot too old
    "F0": Verdict.ENVIRONMENT,
    "XX": Verdict.ENVIRONMENT,
}

# A statement that takes too long may have waited for a lock: try it once more. Then smaller batches may be
# fast enough, and an event that is too slow by itself while others go through is refused like a bug's.
_ONCE: Final = {"57014", "25P04"}

# What Redis says about itself in an error that has no class of its own in the library.
_REDIS_STATES: Final = ("BUSY", "MISCONF", "NOREPLICAS", "NOTBUSY", "UNKILLABLE")

# How uvloop's RuntimeError ends where asyncio has an OSError: somebody wrote to a transport that was closed.
_CLOSED: Final = "the handler is closed"

TRANSIENT_TRIES: Final = 8
"""As often is a batch run again that loses a race, before it is tried in halves."""


def is_missing_partition(error: BaseException) -> bool:
    """A row found no partition: 23514 as every CHECK violation, but without a constraint's name."""
    return (
        isinstance(error, asyncpg.PostgresError)
        and error.sqlstate == "23514"
        and not getattr(error, "constraint_name", None)
    )


def is_connection_lost(error: BaseException) -> bool:
    """The connection broke, or is in a state that it cannot be used in: no event did that."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith("08")
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


def judge(error: BaseException, tries: int = 1) -> Verdict:
    """What to do about an error that rolled a batch back, for the `tries`-th time in a row."""
    match error:
        case RetryBatch():
            # The handler's word for it; if it never ends, it is the handler that does not.
            return Verdict.TRANSIENT if tries < TRANSIENT_TRIES else Verdict.UNKNOWN
        case EventError():
            return Verdict.DATA
        case Unavailable():
            return Verdict.ENVIRONMENT
        case asyncpg.PostgresError():
            return _judge_sqlstate(error, tries)
        case asyncpg.TargetServerAttributeNotMatched():
            return Verdict.ENVIRONMENT  # a failover is under way: no host is the primary
        case asyncpg.InternalClientError():
            return Verdict.TRANSIENT
        case asyncpg.InterfaceError():
            # asyncpg raises DataError (an InterfaceError and a ValueError) for a value it cannot encode.
            return Verdict.DATA if isinstance(error, ValueError) else Verdict.TRANSIENT
        case redis_errors.RedisError():
            return _judge_redis(error)
        case amqp_errors.AMQPError() | amqp_errors.ChannelInvalidStateError():
            return Verdict.ENVIRONMENT
        case RuntimeError() if str(error).endswith(_CLOSED):
            return Verdict.ENVIRONMENT
        case OSError() | asyncio.TimeoutError() | MemoryError():
            return Verdict.ENVIRONMENT  # nobody answers, or there is no room to work in
        case _:
            return Verdict.UNKNOWN


def _judge_sqlstate(error: asyncpg.PostgresError, tries: int) -> Verdict:
    state = error.sqlstate or ""
    if is_missing_partition(error):
        return Verdict.ENVIRONMENT
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return Verdict.TRANSIENT  # the schema changed under a prepared statement; the next try prepares anew
    if state in _ONCE and tries > 1:
        return Verdict.UNKNOWN
    for length in (5, 3, 2):
        if verdict := _BY_SQLSTATE.get(state[:length]):
            return verdict
    return Verdict.UNKNOWN


def _judge_redis(error: redis_errors.RedisError) -> Verdict:
    """LOADING, READONLY, OOM, NOPERM, nobody answers: never one event's fault. But a value of the wrong
    kind may be."""
    if isinstance(error, redis_errors.WatchError):
        return Verdict.TRANSIENT
    if isinstance(error, redis_errors.DataError):
        return Verdict.UNKNOWN
    if type(error) is redis_errors.ResponseError and not str(error).startswith(_REDIS_STATES):
        return Verdict.UNKNOWN
    return Verdict.ENVIRONMENT


def reason_for(error: BaseException) -> Reason:
    """The reason code of the dead letter that this error makes."""
    if isinstance(error, EventError):
        return error.reason
    return Reason.DATABASE_REFUSED if judge(error) is Verdict.DATA else Reason.HANDLER_FAILED


def describe(error: BaseException) -> str:
    """One bounded line about an error, without the values that PostgreSQL puts into its DETAIL."""
    if isinstance(error, EventError):
        text = str(error)
    elif isinstance(error, asyncpg.PostgresError):
        column = getattr(error, "column_name", None) or getattr(error, "constraint_name", None) or ""
        text = f"PostgreSQL {error.sqlstate} {type(error).__name__} {column}".rstrip()
    else:
        text = reason(error)
    return text[:500]
