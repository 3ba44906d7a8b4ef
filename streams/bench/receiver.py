"""An OTLP receiver as a process of its own: decodes what it is sent and counts the spans.

`python -m streams.bench.receiver GRPC_PORT HTTP_PORT`; GET /counts on the HTTP port tells what came in.
"""

from __future__ import annotations

import gzip
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc  # type: ignore[import-untyped]
import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_ACCEPTED: bytes = ExportTraceServiceResponse().SerializeToString()
_CONSUMER = 5
_MAX_BYTES = 64 * 1024 * 1024


class Counts:
    """What has come in; `spans` of any kind, `consumer` those of kind CONSUMER."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter()

    def take_protobuf(self, body: bytes) -> bytes:
        request = ExportTraceServiceRequest.FromString(body)
        kinds = [
            span.kind
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self._add(len(body), len(kinds), kinds.count(_CONSUMER))
        return _ACCEPTED

    def take_json(self, body: bytes) -> None:
        kinds = [
            span.get("kind")
            for resource in orjson.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        self._add(len(body), len(kinds), kinds.count(_CONSUMER))

    def as_json(self) -> bytes:
        with self._lock:
            return orjson.dumps(self._values)

    def _add(self, size: int, spans: int, consumer: int) -> None:
        with self._lock:
            self._values.update(requests=1, bytes=size, spans=spans, consumer=consumer)


def serve(grpc_port: int, http_port: int) -> None:
    """Serve until the process is ended."""
    counts = Counts()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", _MAX_BYTES)])
    server.add_generic_rpc_handlers((_Traces(counts),))
    if not server.add_insecure_port(f"127.0.0.1:{grpc_port}"):
        raise SystemExit(f"port {grpc_port} is taken")
    server.start()
    ThreadingHTTPServer(("127.0.0.1", http_port), _http(counts)).serve_forever()


class _Traces(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, counts: Counts) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(lambda body, _: counts.take_protobuf(body))

    def service(self, details: Any) -> Any:
        return self._handler if details.method == _EXPORT else None


def _http(counts: Counts) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer("application/json", counts.as_json())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            kind = self.headers.get("content-type", "")
            if kind.startswith("application/json"):
                counts.take_json(body)
                self._answer(kind, b"{}")
            else:
                self._answer(kind, counts.take_protobuf(body))

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
