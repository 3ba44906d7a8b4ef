"""From an error to what is done about it: one pure table.

TRANSIENT    roll back, wait a little, run the same batch again
ENVIRONMENT  nothing is wrong with the events: pause, wait for the world to be repaired, resume
DATA         an event is to blame: bisect, quarantine the culprit
UNKNOWN      a handler's bug, most likely: bisect too, but pause when everything fails alike
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

import asyncpg
from redis import exceptions as redis_errors

from schemas.errors import EventError, Reason, RetryBatch, Unavailable
from streams.refusal import reason


class Verdict(StrEnum):
    TRANSIENT = "transient"
    ENVIRONMENT = "environment"
    DATA = "data"
    UNKNOWN = "unknown"


# SQLSTATEs, the longest prefix wins (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_BY_SQLSTATE = {
    "40": Verdict.TRANSIENT,  # deadlock, serialization failure (a row moved), unknown commit
    "55P03": Verdict.TRANSIENT,  # lock_timeout
    "55": Verdict.ENVIRONMENT,  # an object in a state that an operator is changing
    "57014": Verdict.TRANSIENT,  # statement_timeout
    "08": Verdict.TRANSIENT,  # connection lost
    "22": Verdict.DATA,
    "23": Verdict.DATA,
    "54000": Verdict.DATA,  # a limit of the row, not of the machine
    "25006": Verdict.ENVIRONMENT,  # read-only: a standby after a failover
    "25P03": Verdict.TRANSIENT,  # idle_in_transaction_session_timeout: our own stall
    "28": Verdict.ENVIRONMENT,  # the password was changed
    "3D": Verdict.ENVIRONMENT,
    "42": Verdict.ENVIRONMENT,  # a table, column or function that is not migrated yet, a grant that lacks
    "53": Verdict.ENVIRONMENT,  # disk full, out of memory, too many connections
    "57P": Verdict.ENVIRONMENT,  # shut down, starting up
    "58": Verdict.ENVIRONMENT,  # I/O error
    "F0": Verdict.ENVIRONMENT,
    "XX": Verdict.ENVIRONMENT,
}


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


def judge(error: BaseException) -> Verdict:
    """What to do about an error that rolled a batch back."""
    if isinstance(error, RetryBatch):
        return Verdict.TRANSIENT
    if isinstance(error, EventError):
        return Verdict.DATA
    if isinstance(error, Unavailable):
        return Verdict.ENVIRONMENT
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.InternalClientError):
        return Verdict.TRANSIENT  # the schema changed under a prepared statement; the next try prepares anew
    if isinstance(error, asyncpg.PostgresError):
        return _judge_sqlstate(error)
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg raises DataError (an InterfaceError and a ValueError) for a value it cannot encode.
        return Verdict.DATA if isinstance(error, ValueError) else Verdict.TRANSIENT
    if isinstance(error, redis_errors.ResponseError):
        return Verdict.ENVIRONMENT  # LOADING, READONLY, OOM, NOPERM: never one event's fault
    if isinstance(error, redis_errors.RedisError | OSError | asyncio.TimeoutError):
        return Verdict.ENVIRONMENT  # nobody answers
    return Verdict.UNKNOWN


def _judge_sqlstate(error: asyncpg.PostgresError) -> Verdict:
    if is_missing_partition(error):
        return Verdict.ENVIRONMENT
    state = error.sqlstate or ""
    for length in (5, 3, 2):
        if verdict := _BY_SQLSTATE.get(state[:length]):
            return verdict
    return Verdict.UNKNOWN


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
