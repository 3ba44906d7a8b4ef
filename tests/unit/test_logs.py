"""Log lines: one format, with the trace, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog

from schemas.errors import ConfigurationError
from streams.telemetry import configure_logging, log_context
from streams.telemetry.logs import mask_credentials


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_our_lines_and_those_of_libraries_have_one_format(output: io.StringIO) -> None:
    configure_logging("info", json=True, stream=output)
    with log_context(trace_id="a" * 32, span_id="b" * 16, queue=None):
        structlog.get_logger("streams.pipeline").info("batch stored", size=500)
        logging.getLogger("somewhere").warning("took %d s", 3)
    logging.getLogger("aio_pika").info("connected")
    logging.getLogger("aiormq.connection").warning("lost")
    structlog.get_logger("streams.pipeline").debug("not heard")

    stored, took, lost = lines(output)
    assert (
        stored.items()
        >= {
            "message": "batch stored",
            "level": "info",
            "logger": "streams.pipeline",
            "size": 500,
            "trace_id": "a" * 32,
            "span_id": "b" * 16,
        }.items()
    )
    assert stored["timestamp"].endswith("Z")
    assert "queue" not in stored
    assert (took["message"], took["trace_id"]) == ("took 3 s", "a" * 32)
    assert lost["message"] == "lost"
    assert "trace_id" not in lost


def test_passwords_in_urls_are_masked_wherever_they_stand(output: io.StringIO) -> None:
    configure_logging(json=True, stream=output)
    secret = "amqp://user:p@ss:w0rd@broker:5672/%2F"
    log = structlog.get_logger("streams.edge")
    log.warning(
        "cannot reach %s", secret, urls=[secret], broker={"url": secret}, error=ConnectionError(secret)
    )
    logging.getLogger("aiormq").error("lost %s", secret)
    try:
        raise ConnectionError(secret)
    except ConnectionError:
        log.exception("failed")
    text = output.getvalue()
    assert "w0rd" not in text
    assert text.count("amqp://***@broker:5672/%2F") >= 6
    assert [line["message"] for line in lines(output)][2] == "failed"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:p@a:1,b:2/db?sslmode=require", "postgresql://***@a:1,b:2/db?sslmode=require"),
        ("redis://:p@h/0 and amqps://u:p@h", "redis://***@h/0 and amqps://***@h"),
        ("http://host:4317/v1/traces", "http://host:4317/v1/traces"),
        ("https://host/a:b@c", "https://host/a:b@c"),
        ("mail to user@example.org", "mail to user@example.org"),
    ],
)
def test_only_credentials_are_masked(text: str, masked: str) -> None:
    assert mask_credentials(text) == masked


def test_the_console_is_readable_and_configuring_twice_is_once(output: io.StringIO) -> None:
    configure_logging("DEBUG", json=True, stream=output)
    configure_logging("DEBUG", json=False, stream=output)
    structlog.get_logger("streams").debug("hello", size=1)
    [line] = output.getvalue().splitlines()
    assert "hello" in line
    assert "size=1" in line
    with pytest.raises(ValueError, match="loud"):
        configure_logging("loud")


class Quoting(Exception):
    """As a library's errors are: the message repeats the value."""


@pytest.mark.parametrize("json", [True, False])
def test_tracebacks_tell_where_and_what_but_not_the_data(output: io.StringIO, json: bool) -> None:
    configure_logging("DEBUG", json=json, stream=output)
    marked = uuid4().hex

    def fail() -> None:
        try:
            raise Quoting(marked)
        except Quoting as error:
            raise ConfigurationError("postgresql://u:sesame@h/d is wrong") from error

    try:
        try:
            fail()
        except ConfigurationError as error:
            raise ExceptionGroup(marked, [error, KeyError(marked)]) from None
    except ExceptionGroup:
        structlog.get_logger("streams").exception("failed")
        logging.getLogger("elsewhere").exception("failed, too")
    text = output.getvalue()
    assert marked not in text
    assert "ConfigurationError: postgresql://***@h/d is wrong" in text
    assert text.count("Quoting (its message is withheld") == 2
    assert text.count("in fail") >= 2
