"""OTLP, written by hand.

The SDK's encoder costs 20 µs a span: it makes a protobuf object for every id, attribute and link. Most
of a span's bytes are those of its shape, so they are made once, and a span is a handful of joins: 2 µs.
Connections, TLS, headers, compression and retries stay the SDK exporters' business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind, TraceState

from streams.telemetry.records import NONE, Attributes, Record, Shape, Spans, Target, Value

_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200

# Tags of opentelemetry/proto/trace/v1/trace.proto: field number << 3 | wire type.
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_TRACE_STATE: Final = b"\x1a"
_PARENT_ID: Final = b"\x22\x08"
_NAME: Final = b"\x2a"
_KIND: Final = b"\x30"
_ATTRIBUTE: Final = b"\x4a"
_DROPPED_ATTRIBUTES: Final = b"\x50"
_LINK: Final = b"\x6a"
_DROPPED_LINKS: Final = b"\x70"
_STATUS: Final = b"\x7a"
_LINK_FLAGS: Final = b"\x35" + struct.pack("<I", _HAS_IS_REMOTE)
_LINK_HEAD: Final = _LINK + b"\x21" + _TRACE_ID  # 33 bytes: two ids and flags
_STATUS_ERROR: Final = 2

_TIMES: Final = struct.Struct("<BQBQ").pack
_ROOT_FLAGS: Final = b"\x85\x01" + struct.pack("<I", _HAS_IS_REMOTE)
_REMOTE_FLAGS: Final = b"\x85\x01" + struct.pack("<I", _HAS_IS_REMOTE | _IS_REMOTE)
_KINDS: Final = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_hex = bytes.fromhex


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _block(tag: bytes, body: bytes) -> bytes:
    return tag + varint(len(body)) + body


def _text(tag: bytes, text: str) -> bytes:
    # A lone surrogate must not cost its neighbours their spans.
    return _block(tag, text.encode("utf-8", "replace"))


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case str():
            return _text(b"\x0a", value)
        case int():
            return b"\x18" + varint(value)
        case float():
            return b"\x21" + struct.pack("<d", value)


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    return _text(b"\x0a", name)


def _attribute(name: str, value: Value) -> bytes:
    return _block(_ATTRIBUTE, _key(name) + _block(b"\x12", _value(value)))


def _attributes(attributes: Mapping[str, Value]) -> bytes:
    return b"".join([_attribute(name, value) for name, value in attributes.items()])


def _links(links: Iterable[Target]) -> bytes:
    return b"".join(
        [_LINK_HEAD + _hex(link.trace) + _SPAN_ID + _hex(link.span) + _LINK_FLAGS for link in links]
    )


class Encoder:
    """Encodes records as an ExportTraceServiceRequest, byte for byte what the SDK's encoder means."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._resource, self._scope = self._heads(spans)
        self._heads_of: dict[int, tuple[Shape, bytes]] = {}
        self._back: tuple[Sequence[Target], bytes] = ((), b"")

    @staticmethod
    def _heads(spans: Spans) -> tuple[bytes, bytes]:
        """Resource and scope as the SDK encodes them, around no span at all."""
        empty = ReadableSpan("", resource=spans.resource, instrumentation_scope=spans.scope)
        empty._context = spans.build(Record(Shape("", SpanKind.INTERNAL), "1", "1", None, 0, 0)).context
        [resource_spans] = encode_spans([empty]).resource_spans
        [scope_spans] = resource_spans.scope_spans
        del scope_spans.spans[:]
        scope = scope_spans.SerializeToString()
        del resource_spans.scope_spans[:]
        return resource_spans.SerializeToString(), scope

    def encode(self, records: Sequence[Record]) -> bytes:
        spans = b"".join([_block(b"\x12", self._span(record)) for record in records])
        scope_spans = _block(b"\x12", self._scope + spans)
        return _block(b"\x0a", self._resource + scope_spans)
