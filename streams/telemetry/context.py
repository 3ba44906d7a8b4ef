"""W3C trace context, as strings: parsed when something arrives, written when something is sent.

Ids stay hexadecimal text from end to end: most of them are only ever copied.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, MutableMapping
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SAMPLED: Final = 0x01
RANDOM: Final = 0x02

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_MAX_TRACEPARENT = 512  # a version after 00 may be longer than the 55 characters that we know
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_TRACESTATE = 512
_MAX_MEMBERS = 32
_W3C_FIELDS: Final = {"traceparent", "tracestate", "baggage"}
_NO_STATE: Final = TraceState()

_KNOWN_FLAGS: Final = {f"{flags:02x}": flags & (SAMPLED | RANDOM) for flags in range(256)}
_SDK_FLAGS: Final = [TraceFlags(flags) for flags in range(4)]

# Seeded by the system, and out of reach of a `random.seed()` elsewhere: ids must never repeat.
_random = random.Random()


class TraceContext(NamedTuple):
    """A span as others name it: lower-case hexadecimal ids, W3C flags, the tracestate as it came."""

    trace_id: str
    span_id: str
    flags: int
    tracestate: str | None = None

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """The context in a `traceparent` (and a `tracestate`), or None when it is not a valid one.

    Takes whatever stood in a message and never raises. A tracestate that is not valid is dropped.
    """
    if type(traceparent) is not str or len(traceparent) > _MAX_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (rest and version == "00"):
        return None
    state = None if tracestate is None else _parse_tracestate(tracestate)
    return TraceContext(trace_id, span_id, _KNOWN_FLAGS[flags], state)


def _parse_tracestate(tracestate: object) -> str | None:
    # The SDK would take it, too, with a line in the log for every mistake in every message.
    if type(tracestate) is not str or len(tracestate) > _MAX_TRACESTATE:
        return None
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    if not 0 < len(members) <= _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return None
    if len({member.partition("=")[0] for member in members}) < len(members):
        return None
    return ",".join(members)


def new_trace_id() -> str:
    return f"{_random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    return f"{_random.getrandbits(64) or 1:016x}"


def span_context(
    trace_id: str, span_id: str, flags: int, tracestate: str | None, remote: bool
) -> SpanContext:
    """The same context, as the SDK wants it."""
    state = _NO_STATE if tracestate is None else TraceState.from_header([tracestate])
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, _SDK_FLAGS[flags], state)


def as_parent(context: TraceContext | None) -> Context:
    """An OpenTelemetry context in which a remote span is current; empty without one."""
    if context is None:
        return Context()
    remote = span_context(*context, remote=True)
    return set_span_in_context(NonRecordingSpan(remote), Context())


class Propagation:
    """Reads and writes trace context in message headers, in the formats that OTEL_PROPAGATORS names.

    W3C trace context, the default, is read and written by hand; any other set goes through the SDK.
    """

    def __init__(self, propagator: TextMapPropagator | None = None) -> None:
        self._propagator = propagator or TraceContextTextMapPropagator()
        self._w3c = "traceparent" in self._propagator.fields
        self._alone = self._w3c and self._propagator.fields <= _W3C_FIELDS

    def extract(self, headers: Mapping[str, object]) -> tuple[str | None, str | None]:
        """The `traceparent` and the `tracestate` of a message, for `Tracing.message`; perhaps malformed."""
        if self._w3c and (parent := _text(headers.get("traceparent"))) is not None:
            return parent, _text(headers.get("tracestate"))
        if self._alone:
            return None, None
        texts = {name: text for name, value in headers.items() if (text := _text(value)) is not None}
        if not texts:
            return None, None
        found = get_current_span(self._propagator.extract(texts, Context())).get_span_context()
        if not found.is_valid:
            return None, None
        parent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        return parent, found.trace_state.to_header() or None

    def inject(self, headers: MutableMapping[str, object], context: TraceContext) -> None:
        """Add a context to the headers of a message that is about to be sent."""
        if not self._alone:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier, as_parent(context))
            headers.update(carrier)
            return
        headers["traceparent"] = context.traceparent
        if context.tracestate is not None:
            headers["tracestate"] = context.tracestate


def _text(value: object) -> str | None:
    """A header's text; AMQP has tables, numbers and bytes, too."""
    if isinstance(value, bytes):
        return value.decode("ascii", errors="replace")
    return value if isinstance(value, str) else None
