"""The table from errors to verdicts."""

from __future__ import annotations

import ssl

import asyncpg
import pytest
from aio_pika import exceptions as amqp_errors
from redis import exceptions as redis_errors

from schemas.errors import InvalidEvent, KillsWorker, Reason, Refused, RetryBatch, Unavailable
from streams.outcome import TRANSIENT_TRIES, Verdict, describe, is_missing_partition, judge, reason_for
from streams.publisher import PublishFailed

TRANSIENT, ENVIRONMENT, DATA, UNKNOWN = Verdict


def postgres(state: str, **fields: str) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": "secret text", "S": "ERROR", **fields})


# (what design.md and the errors' own documentation say, SQLSTATEs)
SQLSTATES = {
    TRANSIENT: "40001 40P01 40003 55P03 08000 08003 08006 25P03 25P04 26000 57014 72000",
    DATA: "22P05 22021 22003 22P02 23502 23503 23505 23P01 54000 54001",
    ENVIRONMENT: (
        "25006 28000 28P01 3D000 3F000 42501 42703 42704 42883 42P01 53000 53100 53200 53300 55000 55006"
        " 57P01 57P02 57P03 57P04 57P05 58030 58P01 F0001 XX000 XX001"
    ),
    UNKNOWN: "0A000 21000 25P02 42601 42702 42804 42P18 44000 P0001 P0004",
}

ERRORS = [
    (postgres("23514", n="tasks_status_check"), DATA),
    (postgres("23514"), ENVIRONMENT),
    (asyncpg.InvalidCachedStatementError("the schema changed"), TRANSIENT),
    (asyncpg.InterfaceError("pool is closing"), TRANSIENT),
    (asyncpg.InternalClientError("protocol"), TRANSIENT),
    (asyncpg.TargetServerAttributeNotMatched("no primary"), ENVIRONMENT),
    (asyncpg.exceptions.DataError("cannot encode"), DATA),
    (ConnectionRefusedError(), ENVIRONMENT),
    (ConnectionResetError(), ENVIRONMENT),
    (ssl.SSLError(), ENVIRONMENT),
    (TimeoutError(), ENVIRONMENT),
    (TimeoutError(), ENVIRONMENT),
    (MemoryError(), ENVIRONMENT),
    (
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        ENVIRONMENT,
    ),
    (RuntimeError("dictionary changed size during iteration"), UNKNOWN),
    (redis_errors.ConnectionError(), ENVIRONMENT),
    (redis_errors.TimeoutError(), ENVIRONMENT),
    (redis_errors.BusyLoadingError(), ENVIRONMENT),
    (redis_errors.AuthenticationError(), ENVIRONMENT),
    (redis_errors.ReadOnlyError(), ENVIRONMENT),
    (redis_errors.OutOfMemoryError(), ENVIRONMENT),
    (redis_errors.NoPermissionError(), ENVIRONMENT),
    (redis_errors.ClusterDownError("CLUSTERDOWN"), ENVIRONMENT),
    (redis_errors.ResponseError("MISCONF Errors writing to the AOF file"), ENVIRONMENT),
    (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write"), ENVIRONMENT),
    (redis_errors.ResponseError("WRONGTYPE Operation against a key"), UNKNOWN),
    (redis_errors.ResponseError("value is not an integer or out of range"), UNKNOWN),
    (redis_errors.DataError("Invalid input of type: 'dict'"), UNKNOWN),
    (redis_errors.WatchError(), TRANSIENT),
    (amqp_errors.AMQPConnectionError(), ENVIRONMENT),
    (amqp_errors.ChannelClosed(406, "PRECONDITION_FAILED"), ENVIRONMENT),
    (amqp_errors.ChannelInvalidStateError(), ENVIRONMENT),
    (amqp_errors.DeliveryError(None, None), ENVIRONMENT),  # type: ignore[arg-type]
    (PublishFailed("the broker is away"), ENVIRONMENT),
    (Unavailable("away"), ENVIRONMENT),
    (InvalidEvent("x"), DATA),
    (Refused("x"), DATA),
    (KillsWorker("x"), DATA),
    (RetryBatch(), TRANSIENT),
    (KeyError("bug"), UNKNOWN),
    (RecursionError(), UNKNOWN),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), UNKNOWN),
]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(state, verdict) for verdict, states in SQLSTATES.items() for state in states.split()],
)
def test_sqlstates(state: str, verdict: Verdict) -> None:
    assert judge(postgres(state)) is verdict


@pytest.mark.parametrize(("error", "verdict"), ERRORS)
def test_verdicts(error: BaseException, verdict: Verdict) -> None:
    assert judge(error) is verdict


@pytest.mark.parametrize("state", ["57014", "25P04"])
def test_what_takes_too_long_is_tried_once_more_and_then_in_halves(state: str) -> None:
    assert [judge(postgres(state), tries) for tries in (1, 2, 9)] == [TRANSIENT, UNKNOWN, UNKNOWN]


def test_lost_races_are_never_an_events_fault() -> None:
    for state in ("40001", "40P01", "55P03"):
        assert judge(postgres(state), 1000) is TRANSIENT
    assert judge(RetryBatch(), TRANSIENT_TRIES - 1) is TRANSIENT
    assert judge(RetryBatch(), TRANSIENT_TRIES) is UNKNOWN, "but a handler that says so for ever has a bug"


def test_a_check_violation_without_a_constraint_is_a_missing_partition() -> None:
    assert is_missing_partition(postgres("23514"))
    assert not is_missing_partition(postgres("23514", n="tasks_status_check"))


def test_descriptions_and_reasons_carry_no_values() -> None:
    assert (
        describe(postgres("22021", D="Failing row contains (secret)"))
        == "PostgreSQL 22021 CharacterNotInRepertoireError"
    )
    assert describe(KeyError("secret")) == "KeyError"
    assert reason_for(postgres("22021")) is Reason.DATABASE_REFUSED
    assert reason_for(KeyError("x")) is Reason.HANDLER_FAILED
    assert reason_for(InvalidEvent("x", field="data.a")) is Reason.INVALID_EVENT
    assert reason_for(KillsWorker("x")) is Reason.KILLS_WORKER
