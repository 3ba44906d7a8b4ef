"""Structured logs: one line per thing that happened, with its trace, never with a payload.

Our modules log through `structlog.get_logger(__name__)`, libraries through the standard library; both
end in one handler and one format.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from streams.telemetry.tracebacks import render

_QUIET: Final = (
    "aio_pika",
    "aiormq",
    "asyncio",
    "asyncpg",
    "faststream",
    "grpc",
    "httpcore",
    "httpx",
    "opentelemetry",
    "pamqp",
    "redis",
    "requests",
    "urllib3",
    "yoyo",
)
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"]*:[^\s'\"]*@(?=[^\s@]*)")
_MASKED: Final = r"\g<scheme>***@"


def mask_credentials(text: str) -> str:
    """The text with the user and the password of every URL in it masked."""
    return _CREDENTIALS.sub(_MASKED, text) if "://" in text else text


def configure_logging(level: str = "INFO", json: bool = True, stream: TextIO | None = None) -> None:
    """Set up logging for this process. May be called again.

    Args:
        level: of our own loggers; libraries are heard from WARNING on, or from `level` if that is higher.
        json: JSON lines for machines, or readable lines for a person.
        stream: standard error unless given.

    Raises:
        ValueError: there is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"there is no log level {level!r}")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    output = stream or sys.stderr
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_rendering(json, colors=output.isatty())
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "_streams", False):
            root.removeHandler(old)
    handler._streams = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, number))


@contextmanager
def log_context(**values: str | None) -> Iterator[None]:
    """Bind values (as trace_id, span_id, queue) to all lines logged inside; None binds nothing."""
    bound = {name: value for name, value in values.items() if value is not None}
    with structlog.contextvars.bound_contextvars(**bound):
        yield


def bind_trace(trace_id: str | None, span_id: str | None) -> None:
    """Say in the lines that this task logs from now on which trace they belong to; None: tracing is off."""
    if trace_id:
        structlog.contextvars.bind_contextvars(trace_id=trace_id, span_id=span_id)


def _rendering(json: bool, *, colors: bool) -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    # structlog's own formatters print local variables and messages, and those hold payloads.
    exceptions = structlog.processors.ExceptionRenderer(render)
    if not json:
        return [remove, exceptions, _mask, structlog.dev.ConsoleRenderer(colors=colors)]
    return [
        remove,
        exceptions,
        structlog.processors.EventRenamer("message"),
        _mask,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _mask(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        event[name] = _masked(value)
    return event


def _masked(value: Any) -> Any:
    match value:
        case str():
            return mask_credentials(value)
        case dict():
            return {name: _masked(item) for name, item in value.items()}
        case list() | tuple():
            return [_masked(item) for item in value]
        case BaseException():
            return mask_credentials(f"{type(value).__name__}: {value}")
        case _:
            return value


def _dumps(event: EventDict, **_: Any) -> str:
    return orjson.dumps(
        event, default=lambda value: mask_credentials(str(value)), option=orjson.OPT_NON_STR_KEYS
    ).decode()
