"""Real OTLP receivers, over gRPC and over HTTP, and what they have taken in."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """What a collector has taken in."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.refusals = 0
        """How many requests to refuse before taking one."""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, str]:
        [attributes] = {
            tuple((pair.key, pair.value.string_value) for pair in resource.resource.attributes)
            for request in self.requests
            for resource in request.resource_spans
        }
        return dict(attributes)


class _Service(TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(  # noqa: N802 - the name in the .proto file
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        if self._receiver.refusals:
            self._receiver.refusals -= 1
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not today")
        self._receiver.headers.append(dict(context.invocation_metadata()))
        self._receiver.requests.append(request)
        return ExportTraceServiceResponse()


@pytest.fixture
def over_grpc(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(_Service(receiver), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield receiver
    server.stop(None).wait(10)


@pytest.fixture
def over_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with http_receiver() as (receiver, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield receiver


@contextmanager
def http_receiver() -> Iterator[tuple[Receiver, dict[str, str]]]:
    """A receiver, and the variables that send a process's spans to it."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            status = 400 if receiver.refusals else 200
            if receiver.refusals:
                receiver.refusals -= 1
            else:
                receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield (
            receiver,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
        )
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
