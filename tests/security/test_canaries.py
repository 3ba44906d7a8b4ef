"""What must not be repeated is not: not in logs, spans, metrics, health, reprs or errors, at DEBUG.

Every payload, header, id, token and password of the run in tests/security/service.py begins with `canary`.
Dead letters and PostgreSQL's tables are where payloads belong; nowhere else.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys

import pytest
from typer.testing import CliRunner

from schemas.contract import Store
from schemas.errors import StreamsError
from streams.app import Service
from streams.cli import commands
from tests.security.secured import Secured
from tests.security.service import Evidence

CANARY = re.compile(r".{0,120}canary.{0,60}", re.IGNORECASE)


def found_in(text: str) -> list[str]:
    return CANARY.findall(text)


def test_the_marked_events_went_through(evidence: Evidence) -> None:
    """Or else there is nothing to find."""
    assert all(b"canary" in body for _, body in evidence.letters)
    assert evidence.history >= 4


@pytest.mark.parametrize("process", ["worker", "updater", "api"])
def test_logs_of_our_processes(evidence: Evidence, process: str) -> None:
    log = evidence.logs[process]
    assert '"level":"info"' in log
    assert found_in(log) == []
    if process == "worker":
        assert log.count("quarantined") >= len(evidence.letters), "what was refused is told"


def test_logs_of_the_servers(evidence: Evidence, secured: Secured) -> None:
    for server in ("postgres", "rabbitmq", "redis"):
        log = (secured.stack.folder / f"{server}.log").read_text(errors="replace")
        assert log
        assert found_in(log) == []
    assert "ERROR:" in (secured.stack.folder / "postgres.log").read_text(), "what it refused, it logged"


def test_metrics_and_health(evidence: Evidence) -> None:
    assert "streams_" in evidence.pages["worker/metrics"]
    for page in evidence.pages.values():
        assert found_in(page) == []


def test_spans_hold_no_more_than_an_events_id(evidence: Evidence) -> None:
    """`messaging.message.id` is what the semantic conventions have for finding a message's trace."""
    assert {span.name.split()[0] for span in evidence.spans.spans} >= {"process", "send", "settle", "INSERT"}
    for request in evidence.spans.requests:
        for text in found_in(str(request)):
            assert re.search(r'string_value: "canary-(id|bytes)-\w+"', text), text
    ids = [
        attribute.value.string_value
        for span in evidence.spans.spans
        for attribute in span.attributes
        if attribute.key == "messaging.message.id"
    ]
    assert any(found_in(message_id) for message_id in ids)


def _wrong(secured: Secured) -> dict[str, dict[str, str]]:
    """Environments in which a command cannot connect, each with a password in its URLs."""
    amqp, database, redis = (
        secured.amqp("worker"),
        secured.database("streams_worker"),
        secured.redis("updater"),
    )
    password = secured.password
    ours = {"AMQP_URL": amqp, "DATABASE_URL": database, "REDIS_URL": redis}
    trusting = secured.environment
    return {
        "unknown authority": ours,
        "wrong password": trusting
        | {name: url.replace(password, "canarywrong") for name, url in ours.items()},
        "nobody there": trusting
        | {
            "AMQP_URL": f"amqps://u:{password}@127.0.0.1:1/",
            "DATABASE_URL": f"postgresql://u:{password}@127.0.0.1:1/d?sslmode=verify-full",
            "REDIS_URL": f"rediss://u:{password}@127.0.0.1:1/0",
        },
        "unescaped": trusting
        | {
            "AMQP_URL": f"amqps://u:{password}/x@127.0.0.1:1/",
            "DATABASE_URL": f"postgresql://u:{password}#x@127.0.0.1:1/d",
            "REDIS_URL": f"rediss://u:{password}?x@127.0.0.1:1/0",
        },
        "plaintext": trusting
        | {
            "AMQP_URL": f"amqp://u:{password}@broker.example/",
            "DATABASE_URL": f"postgresql://u:{password}@db.example/d",
            "REDIS_URL": f"redis://u:{password}@cache.example/0",
        },
    }


COMMANDS = (["migrate"], ["partitions", "plan"], ["scores"], ["topology", "check"], ["dlq", "list"])


# aiormq leaves the socket of a login that was refused to the end of the process, which here is none.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_errors_of_commands(secured: Secured) -> None:
    """Every command that connects, in every way of failing to."""
    for what, variables in _wrong(secured).items():
        for command in COMMANDS:
            said = await asyncio.to_thread(_invoke, command, variables)
            assert said.strip(), (what, command)
            assert found_in(said) == [], (what, command)
    gc.collect()


def _invoke(command: list[str], variables: dict[str, str]) -> str:
    """What a command prints; an error that `streams` would not have as one line is an error here, too."""
    result = CliRunner().invoke(commands.app, command, env=variables)
    if isinstance(result.exception, StreamsError):
        return f"{result.output}{result.exception}"
    assert isinstance(result.exception, SystemExit | None), (command, result.exception)
    return result.output


@pytest.mark.parametrize("what", ["unknown authority", "wrong password", "nobody there", "unescaped"])
async def test_a_process_that_cannot_connect(secured: Secured, what: str) -> None:
    """It waits for its servers or ends; what it says meanwhile is what an operator needs, and no secret."""
    variables = _wrong(secured)[what] | {"STREAMS_LOG_LEVEL": "DEBUG"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "worker",
        env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said, told = "", False
    async for line in process.stdout:
        said += line.decode()
        if "waiting for a server" in said and not told:
            process.terminate()  # once: a second signal ends it at once
            told = True
    assert await process.wait() == (2 if what == "unescaped" else 0), said
    assert found_in(said) == []
    assert EXPECTED[what] in said


EXPECTED = {
    "unknown authority": "set STREAMS_TLS_CA_FILE",
    "wrong password": "InvalidPasswordError",
    "nobody there": "ConnectionRefusedError",
    "unescaped": "AMQP_URL cannot be read",
}


def test_reprs(secured: Secured) -> None:
    settings = secured.settings(
        amqp_url=secured.amqp("worker"), database_url=secured.database("d"), redis_url=secured.redis("r")
    )
    service = Service(settings, Store.POSTGRES)
    for thing in (settings, settings.model_dump(), service, vars(service), secured.stack.urls):
        assert found_in(repr(thing)) == []
        assert found_in(str(thing)) == []
