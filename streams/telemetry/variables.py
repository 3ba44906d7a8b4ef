"""The OTEL_* variables that we read or check ourselves.

The SDK reads the others, and where it finds something that it does not understand it says so in a log that
nobody has set up yet, and goes on with a default. Here a wrong value ends the process at its start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from opentelemetry.propagators.textmap import TextMapPropagator

from schemas.errors import ConfigurationError

_PREFIXES: Final = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_FILES: Final = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


def variable(*names: str) -> str:
    """The first of these variables that is set and not empty, or the empty text."""
    return next((text for name in names if (text := os.environ.get(name, "").strip())), "")


def positive(name: str, default: int) -> int:
    """A positive whole number.

    Raises:
        ConfigurationError: it is none.
    """
    text = variable(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise ConfigurationError(f"{name}={text}: set it to a positive whole number")
    return int(text)


def propagator() -> TextMapPropagator:
    """What OTEL_PROPAGATORS names; W3C trace context and baggage where it names nothing.

    Raises:
        ConfigurationError: it names what is not installed.
    """
    try:
        # Read when it is imported, so that a mistake shows as an error of the import.
        from opentelemetry.propagate import get_global_textmap
    except Exception as error:
        raise ConfigurationError(
            f"OTEL_PROPAGATORS={variable('OTEL_PROPAGATORS')}: {error} b3 comes with the package "
            "opentelemetry-propagator-b3."
        ) from error
    return get_global_textmap()


def check_sampler() -> None:
    """Raises:
    ConfigurationError: OTEL_TRACES_SAMPLER names no sampler, or its argument is no ratio.
    """
    name = variable("OTEL_TRACES_SAMPLER").lower()
    if name and name not in _SAMPLERS:
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER={name}: set it to one of {', '.join(_SAMPLERS)}")
    text = variable("OTEL_TRACES_SAMPLER_ARG")
    if name.endswith("traceidratio") and text:
        try:
            fits = 0 <= float(text) <= 1
        except ValueError:
            fits = False
        if not fits:
            raise ConfigurationError(f"OTEL_TRACES_SAMPLER_ARG={text}: set it to a number from 0 to 1")


def check_exporter() -> None:
    """What the exporters would fail on with a traceback, or later, or never.

    Raises:
        ConfigurationError: the variable is named.
    """
    for prefix in _PREFIXES:
        for name in (f"{prefix}{suffix}" for suffix in _FILES):
            if (path := variable(name)) and not os.access(path, os.R_OK):
                raise ConfigurationError(f"{name}={Path(path)}: the file cannot be read")
        seconds = variable(f"{prefix}TIMEOUT")
        if seconds and not seconds.replace(".", "", 1).isdecimal():
            raise ConfigurationError(f"{prefix}TIMEOUT={seconds}: set it to a number of seconds")
        compression = variable(f"{prefix}COMPRESSION").lower()
        if compression and compression not in _COMPRESSIONS:
            raise ConfigurationError(
                f"{prefix}COMPRESSION={compression}: set it to {' or '.join(_COMPRESSIONS)}"
            )
