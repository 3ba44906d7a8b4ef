"""infra/compose/compose.yaml as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
INFRA: Final = ROOT / "infra"
FILE: Final = INFRA / "compose" / "compose.yaml"
OURS: Final = ("migrate", "topology", "worker", "updater", "api")
"""The services that run our image."""


def load() -> dict[str, Any]:
    """The document, with anchors and merges resolved."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return document


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load()["services"][name]
    return found


def seconds(text: str) -> float:
    """A duration as Compose writes it: 40s, 2m."""
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]
