"""OTLP, encoded by hand.

The SDK's encoder costs 20 µs a span: it makes a protobuf object for every id, attribute and link. Most
of a span's bytes are those of its shape, so they are made once, and a span is a handful of joins: 2 µs.
Connections, TLS, headers, compression and retries stay the SDK exporters' business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind

from streams.telemetry.records import Record, Shape, Spans, Target, Value

_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200

# Tags of opentelemetry/proto/trace/v1/trace.proto: field number << 3 | wire type. Ids are hexadecimal
# already, so what surrounds them is, too, and one call turns all of it into bytes.
_IDS: Final = "0a10%s1208%s"
_IDS_WITH_PARENT: Final = _IDS + "2208%s"
_LINK: Final = "6a210a10%s1208%s35" + struct.pack("<I", _HAS_IS_REMOTE).hex()
_TRACE_STATE: Final = b"\x1a"
_NAME: Final = b"\x2a"
_KIND: Final = b"\x30"
_ATTRIBUTE: Final = b"\x4a"
_DROPPED_ATTRIBUTES: Final = b"\x50"
_DROPPED_LINKS: Final = b"\x70"
_STATUS: Final = b"\x7a"

_MAX_SHAPES: Final = 4096

_TIMES: Final = struct.Struct("<BQBQ").pack
_LOCAL: Final = b"\x85\x01" + struct.pack("<I", _HAS_IS_REMOTE)
_REMOTE: Final = b"\x85\x01" + struct.pack("<I", _HAS_IS_REMOTE | _IS_REMOTE)
_KINDS: Final = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_hex = bytes.fromhex
_VARINTS: Final = [bytes([n]) for n in range(0x80)] + [
    bytes([n & 0x7F | 0x80, n >> 7]) for n in range(0x80, 0x4000)
]


def varint(value: int) -> bytes:
    """A protobuf varint; negative numbers as 64-bit two's complement."""
    if 0 <= value < 0x4000:
        return _VARINTS[value]
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
    return _block(tag, text.encode("utf-8", "replace"))


def _attribute(name: str, value: Value) -> bytes:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")  # a lone surrogate must not cost its neighbours their spans
        return _text_head(name, len(text)) + text
    return _number(name, value)


@lru_cache(maxsize=4096)
def _text_head(name: str, length: int) -> bytes:
    """An attribute, up to its text of so many bytes."""
    value = b"\x0a" + varint(length)
    pair = _text(b"\x0a", name) + b"\x12" + varint(len(value) + length) + value
    return _ATTRIBUTE + varint(len(pair) + length) + pair


@lru_cache(maxsize=4096, typed=True)  # True, 1 and 1.0 are equal, and encoded differently
def _number(name: str, value: bool | float) -> bytes:
    if isinstance(value, bool):
        encoded = b"\x10\x01" if value else b"\x10\x00"
    elif isinstance(value, int):
        encoded = b"\x18" + varint(value)
    else:
        encoded = b"\x21" + struct.pack("<d", value)
    return _block(_ATTRIBUTE, _text(b"\x0a", name) + _block(b"\x12", encoded))


def _links(links: Iterable[Target]) -> bytes:
    return _hex("".join([_LINK % link for link in links]))


class Encoder:
    """Encodes records as an ExportTraceServiceRequest that means what the SDK's encoder would say."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._resource, self._scope = _heads(spans)
        self._known: dict[int, tuple[Shape, bytes]] = {}

    def encode(self, records: Sequence[Record]) -> bytes:
        # Messages of one batch share one sequence of links, so it is encoded once.
        shared: dict[int, bytes] = {}
        spans = b"".join([_block(b"\x12", self._span(record, shared)) for record in records])
        return _block(b"\x0a", self._resource + _block(b"\x12", self._scope + spans))

    def _span(self, record: Record, shared: dict[int, bytes]) -> bytes:
        if record.parent is None:
            ids = _IDS % (record.trace, record.span)
        else:
            ids = _IDS_WITH_PARENT % (record.trace, record.span, record.parent)
        parts = [
            _hex(ids),
            _TIMES(0x39, record.start_ns, 0x41, record.end_ns),
            _REMOTE if record.parent_remote else _LOCAL,
        ]
        if record.tracestate is not None:
            parts.append(_text(_TRACE_STATE, record.tracestate))
        if self._spans.limited:
            parts.append(self._limited(record))
        else:
            parts.append(self._shape(record.shape))
            parts += [_attribute(name, value) for name, value in record.attributes.items()]
        if record.links:
            links = shared.get(id(record.links))
            if links is None:
                links = shared[id(record.links)] = _links(record.links)
            parts.append(links)
        if record.dropped_links:
            parts.append(_DROPPED_LINKS + varint(record.dropped_links))
        if record.error is not None:
            parts.append(_error(record.error, with_attribute=not self._spans.limited))
        return b"".join(parts)

    def _shape(self, shape: Shape) -> bytes:
        known = self._known.get(id(shape))
        if known is not None:
            return known[1]
        encoded = _name(shape) + b"".join([_attribute(*pair) for pair in shape.attributes.items()])
        if len(self._known) < _MAX_SHAPES:
            self._known[id(shape)] = shape, encoded  # the shape is kept, so its id stays its own
        return encoded

    def _limited(self, record: Record) -> bytes:
        attributes, dropped = self._spans.attributes(record)
        encoded = _name(record.shape) + b"".join([_attribute(*pair) for pair in attributes.items()])
        if dropped:
            encoded += _DROPPED_ATTRIBUTES + varint(dropped)
        return encoded


def _heads(spans: Spans) -> tuple[bytes, bytes]:
    """Resource and scope, as the SDK encodes them around no span at all."""
    example = Record(Shape("", SpanKind.INTERNAL), "1", "1", None, 0, 0)
    [resource_spans] = encode_spans(spans.build([example])).resource_spans
    [scope_spans] = resource_spans.scope_spans
    del scope_spans.spans[:]
    scope = scope_spans.SerializeToString()
    del resource_spans.scope_spans[:]
    return resource_spans.SerializeToString(), scope


def _name(shape: Shape) -> bytes:
    return _text(_NAME, shape.name) + _KIND + varint(_KINDS[shape.kind])


def _error(error: str, *, with_attribute: bool) -> bytes:
    status = _block(_STATUS, _text(b"\x12", error) + b"\x18\x02")
    return _attribute("error.type", error) + status if with_attribute else status


class FastGrpcExporter(GrpcSpanExporter):
    """The SDK's gRPC exporter with our encoder: takes records where it took spans."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def _translate_data(self, data: Any) -> ExportTraceServiceRequest:
        # Parsing our own bytes again costs 0.3 µs a span, and leaves the SDK's calls as they are.
        request = ExportTraceServiceRequest()
        request.ParseFromString(self._encoder.encode(data))
        return request


class FastHttpExporter(HttpSpanExporter):
    """The SDK's OTLP/HTTP exporter with our encoder: takes records where it took spans."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def export(self, spans: Any) -> SpanExportResult:
        sent = self._client.export(self._encoder.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


class OtlpExporter:
    """Sends records over OTLP.

    Args:
        protocol: "grpc" or "http/protobuf"; endpoint, headers, TLS, compression and timeouts are the
            OTEL_EXPORTER_OTLP_* variables.
    """

    def __init__(self, protocol: str, spans: Spans) -> None:
        encoder = Encoder(spans)
        self._exporter: FastGrpcExporter | FastHttpExporter
        self._exporter = FastGrpcExporter(encoder) if protocol == "grpc" else FastHttpExporter(encoder)

    def export(self, records: Sequence[Record]) -> bool:
        return self._exporter.export(records) is SpanExportResult.SUCCESS  # type: ignore[arg-type]

    def shutdown(self) -> None:
        self._exporter.shutdown()
