"""Beginnings wait for servers, whatever a library raises when a connection breaks meanwhile."""

from __future__ import annotations

import aio_pika.exceptions
import asyncpg
import pytest

from schemas.errors import Unavailable
from streams.health import Health
from streams.lifecycle import exit_status, first_of_ours, until_up


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        aio_pika.exceptions.AMQPConnectionError(),
        aio_pika.exceptions.ChannelInvalidStateError("<Channel 2> closed"),
        asyncpg.CannotConnectNowError("starting up"),
        Unavailable("not there"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_server_that_is_not_there_is_waited_for(error: Exception) -> None:
    health, tries = Health(), 0

    async def connect() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error

    await until_up(health, "the server", connect)
    assert tries == 2
    assert "the server" not in health.troubles


async def test_a_bug_is_not_waited_out() -> None:
    async def connect() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await until_up(Health(), "the server", connect)


def test_of_a_group_what_we_raise_on_purpose_comes_out_by_itself() -> None:
    ours = Unavailable("on purpose")
    with pytest.raises(Unavailable, match="on purpose"), first_of_ours():
        raise ExceptionGroup("", [KeyError("a bug"), ExceptionGroup("", [ours])])
    with pytest.raises(ExceptionGroup, match="only bugs"), first_of_ours():
        raise ExceptionGroup("only bugs", [KeyError("a bug")])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(), 0),
        (SystemExit(7), 7),
        (SystemExit("words"), 1),
        (Unavailable("on purpose"), 2),
        (KeyboardInterrupt(), 1),
        (KeyError("a bug"), 1),
    ],
    ids=repr,
)
def test_a_role_that_raised_ends_with_the_status_that_it_would_have_had(
    error: BaseException, status: int
) -> None:
    assert exit_status(error) == status
