"""OTEL_* variables do what the table in docs/telemetry.md says, or end the process with their name."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import add_TraceServiceServicer_to_server

from streams.telemetry import Telemetry
from tests.integration.test_otlp import trace_a_batch
from tests.receivers import Receiver, _Service
from tests.security.secured import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.issue(tmp_path_factory.mktemp("otlp") / "tls", "127.0.0.1")


@pytest.fixture
def over_tls(certificates: Certificates) -> Iterator[tuple[Receiver, str]]:
    """A gRPC receiver that asks for our certificate, too."""
    receiver = Receiver()
    key, chain, ca = (p.read_bytes() for p in (certificates.key, certificates.certificate, certificates.ca))
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(_Service(receiver), server)  # type: ignore[no-untyped-call]
    credentials = grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield receiver, f"https://127.0.0.1:{port}"
    server.stop(None).wait(10)


def test_certificates_are_the_variables_over_grpc(
    over_tls: tuple[Receiver, str], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, url = over_tls
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificates.ca))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(certificates.certificate))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(certificates.key))
    telemetry = Telemetry.from_environment("worker")
    trace_a_batch(telemetry, 3)
    assert telemetry.shutdown(20)
    assert len(receiver.spans) == 6


@pytest.mark.parametrize(("trusted", "arrived"), [(True, 1), (False, 0)])
def test_certificates_are_the_variables_over_http(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, trusted: bool, arrived: int
) -> None:
    taken: list[str] = []
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they win over any variable of OpenTelemetry
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            taken.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"https://127.0.0.1:{server.server_port}/t")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if trusted:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", str(certificates.ca))
    try:
        telemetry = Telemetry.from_environment("worker")
        trace_a_batch(telemetry, 3)
        telemetry.shutdown(20 if trusted else 0.2)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert taken == ["/t"] * arrived


WRONG = {
    "OTEL_PROPAGATORS": "b3-that-is-not-installed",
    "OTEL_TRACES_SAMPLER": "sometimes",
    "OTEL_TRACES_SAMPLER_ARG": "half",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": "/nowhere/key.pem",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
}

_EACH = """
import json, os, sys
from schemas.errors import ConfigurationError
from streams.telemetry import Telemetry
said = {}
for name, value in json.load(sys.stdin).items():
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio"} if name.endswith("_ARG") else {}
    os.environ.update({name: value, **sampler})
    try:
        Telemetry.from_environment("worker").shutdown(0.1)
    except ConfigurationError as error:
        said[name] = str(error)
    for each in (name, *sampler):
        del os.environ[each]
    sys.modules.pop("opentelemetry.propagate", None)
print(json.dumps(said))
"""


def test_what_is_wrong_ends_the_process_with_its_name() -> None:
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", _EACH],
        input=json.dumps(WRONG), env=environment, capture_output=True, text=True, check=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert {name: name in message for name, message in said.items()} == dict.fromkeys(WRONG, True)
