"""The table from errors to verdicts."""

from __future__ import annotations

import asyncpg
import pytest
from redis import exceptions as redis_errors

from schemas.errors import InvalidEvent, Reason, RetryBatch
from streams.outcome import Verdict, describe, is_missing_partition, judge, reason_for
from streams.publisher import PublishFailed


def postgres(state: str, **fields: str) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": "secret text", "S": "ERROR", **fields})


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (postgres("40001"), Verdict.TRANSIENT),
        (postgres("40P01"), Verdict.TRANSIENT),
        (postgres("57014"), Verdict.TRANSIENT),
        (postgres("08006"), Verdict.TRANSIENT),
        (postgres("22P05"), Verdict.DATA),
        (postgres("22021"), Verdict.DATA),
        (postgres("54000"), Verdict.DATA),
        (postgres("23505"), Verdict.DATA),
        (postgres("23514", n="tasks_status_check"), Verdict.DATA),
        (postgres("23514"), Verdict.ENVIRONMENT),
        (postgres("25006"), Verdict.ENVIRONMENT),
        (postgres("42P01"), Verdict.ENVIRONMENT),
        (postgres("42501"), Verdict.ENVIRONMENT),
        (postgres("53100"), Verdict.ENVIRONMENT),
        (postgres("53300"), Verdict.ENVIRONMENT),
        (postgres("57P01"), Verdict.ENVIRONMENT),
        (postgres("57P03"), Verdict.ENVIRONMENT),
        (postgres("42703"), Verdict.ENVIRONMENT),
        (postgres("40003"), Verdict.TRANSIENT),
        (asyncpg.InvalidCachedStatementError("the schema changed"), Verdict.TRANSIENT),
        (postgres("P0001"), Verdict.UNKNOWN),
        (asyncpg.InterfaceError("pool is closing"), Verdict.TRANSIENT),
        (asyncpg.exceptions.DataError("cannot encode"), Verdict.DATA),
        (ConnectionRefusedError(), Verdict.ENVIRONMENT),
        (TimeoutError(), Verdict.ENVIRONMENT),
        (redis_errors.ConnectionError(), Verdict.ENVIRONMENT),
        (redis_errors.ReadOnlyError(), Verdict.ENVIRONMENT),
        (InvalidEvent("x"), Verdict.DATA),
        (RetryBatch(), Verdict.TRANSIENT),
        (PublishFailed("the broker is away"), Verdict.ENVIRONMENT),
        (KeyError("bug"), Verdict.UNKNOWN),
    ],
)
def test_verdicts(error: BaseException, verdict: Verdict) -> None:
    assert judge(error) is verdict


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
