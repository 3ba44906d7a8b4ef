"""From the OTEL_* variables to working telemetry.

The variables and their meaning are OpenTelemetry's own, read by the SDK wherever it has a way to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas

from schemas.errors import ConfigurationError
from streams.telemetry.export import Exporter, QueuePolicy, SdkExporter, SpanQueue
from streams.telemetry.metrics import Metrics
from streams.telemetry.records import Spans
from streams.telemetry.sampling import Sampling
from streams.telemetry.spans import Tracing

_SCOPE: Final = "agent-streams"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
