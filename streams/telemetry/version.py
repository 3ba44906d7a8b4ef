"""The version of this package, as telemetry tells it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def own_version() -> str:
    """As in "0.1.0"; "0" where the package is not installed."""
    try:
        return version("agent-streams")
    except PackageNotFoundError:
        return "0"
