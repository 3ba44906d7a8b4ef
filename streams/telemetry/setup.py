"""From the OTEL_* variables to working telemetry.

The variables and their meaning are OpenTelemetry's own, read by the SDK wherever it has a way to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas

from schemas.errors import ConfigurationError
from streams.telemetry.context import Propagation
from streams.telemetry.export import Exporter, QueuePolicy, SdkExporter, SpanQueue
from streams.telemetry.metrics import Metrics
from streams.telemetry.records import Spans
from streams.telemetry.sampling import Sampling
from streams.telemetry.spans import Tracing
from streams.telemetry.variables import check_exporter, check_sampler, positive, propagator, variable
from streams.telemetry.version import own_version

_SCOPE: Final = "agent-streams"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP_PROTOCOLS: Final = ("grpc", "http/protobuf")
_DEFAULT: Final = QueuePolicy()


class Telemetry:
    """Tracing and metrics of one process."""

    def __init__(self, tracing: Tracing, metrics: Metrics, queue: SpanQueue | None = None) -> None:
        self.tracing = tracing
        self.metrics = metrics
        self._queue = queue

    @classmethod
    def from_environment(cls, role: str, *, link_limit: int = 2000, link_origins: bool = False) -> Telemetry:
        """Telemetry as the OTEL_* variables ask for; without any of them, metrics alone.

        Args:
            role: "worker", "updater", "api": the service's name ends in it unless OTEL_SERVICE_NAME is set.
            link_limit: links of a batch span (the batch size), unless OTEL_SPAN_LINK_COUNT_LIMIT is set.
            link_origins: as in `Tracing`.

        Raises:
            ConfigurationError: a variable has a value that nothing here understands.
        """
        kind = _exporter_kind()
        if kind is None:
            nothing = Tracing(None, link_origins=link_origins, propagation=Propagation(propagator()))
            return cls(nothing, Metrics(role))
        return cls._exporting(
            role, link_limit, lambda spans: _exporter(kind, spans), _policy(), link_origins=link_origins
        )

    @classmethod
    def disabled(cls) -> Telemetry:
        """Metrics alone."""
        return cls(Tracing(None), Metrics())

    @classmethod
    def exporting_to(
        cls,
        exporter: SpanExporter,
        role: str = "worker",
        *,
        link_limit: int = 2000,
        policy: QueuePolicy = _DEFAULT,
        link_origins: bool = False,
    ) -> Telemetry:
        """Telemetry that hands its spans to an exporter of the SDK: for tests and measurements."""
        return cls._exporting(
            role, link_limit, lambda spans: SdkExporter(exporter, spans), policy, link_origins=link_origins
        )

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Export what waits, within `timeout` seconds; whether all of it got out. Blocks: use a thread."""
        return self._queue is None or self._queue.shutdown(timeout)

    @classmethod
    def _exporting(
        cls,
        role: str,
        link_limit: int,
        exporter: Callable[[Spans], Exporter],
        policy: QueuePolicy,
        *,
        link_origins: bool,
    ) -> Telemetry:
        metrics = Metrics(role)
        limits = _limits()
        check_sampler()
        # Never asked for a tracer: it reads sampler and resource as the specification wants them read.
        provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False, span_limits=limits)
        if variable("OTEL_SPAN_LINK_COUNT_LIMIT") and limits.max_links is not None:
            link_limit = limits.max_links
        scope = InstrumentationScope(_SCOPE, own_version(), Schemas.V1_44_0.value)
        spans = Spans(provider.resource, scope, limits)
        queue = SpanQueue(exporter(spans), policy, metrics.spans_lost)
        metrics.span_queue(queue.__len__)
        sampling = Sampling(provider.sampler)
        tracing = Tracing(
            queue,
            sampling,
            link_limit=link_limit,
            link_origins=link_origins,
            propagation=Propagation(propagator()),
        )
        return cls(tracing, metrics, queue)


def _exporter_kind() -> str | None:
    """What to export to: "otlp", "console", or None when spans are not wanted."""
    if variable("OTEL_SDK_DISABLED").lower() == "true":
        return None
    default = "otlp" if variable(*_ENDPOINTS) else "none"
    kind = variable("OTEL_TRACES_EXPORTER").lower() or default
    if kind == "none":
        return None
    if kind not in ("otlp", "console"):
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER={kind}: set it to otlp, console or none")
    return kind


def _exporter(kind: str, spans: Spans) -> Exporter:
    if kind == "console":
        return SdkExporter(ConsoleSpanExporter(), spans)
    check_exporter()
    from streams.telemetry.otlp import OtlpExporter  # slow to import: only where it is used

    return OtlpExporter(_protocol(), spans)


def _protocol() -> str:
    protocol = variable(*_PROTOCOLS).lower()
    if not protocol:
        # 4318 is OTLP/HTTP's port; everywhere else the SDK's default holds.
        return "http/protobuf" if urlsplit(variable(*_ENDPOINTS)).port == 4318 else "grpc"
    if protocol not in _OTLP_PROTOCOLS:
        raise ConfigurationError(f"{_PROTOCOLS[1]}={protocol}: set it to {' or '.join(_OTLP_PROTOCOLS)}")
    return protocol


def _resource(role: str) -> Resource:
    attributes = {"service.version": own_version()}
    # What is passed to `create` wins over the variables, so it must not name what they name.
    if not variable("OTEL_SERVICE_NAME") and "service.name=" not in variable("OTEL_RESOURCE_ATTRIBUTES"):
        attributes["service.name"] = f"agent-streams-{role}"
    return Resource.create(attributes)


def _limits() -> SpanLimits:
    try:
        return SpanLimits()
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _policy() -> QueuePolicy:
    capacity = positive("OTEL_BSP_MAX_QUEUE_SIZE", _DEFAULT.capacity)
    return QueuePolicy(
        capacity=capacity,
        delay=positive("OTEL_BSP_SCHEDULE_DELAY", round(_DEFAULT.delay * 1000)) / 1000,
        batch=min(capacity, positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _DEFAULT.batch)),
    )
