"""What a query asks for: metrics with the labels that it names. Enough of PromQL for our own queries."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"(?<![\w.])(?P<name>[a-zA-Z_:][\w:]*)\s*(?P<call>\()?\s*(?:\{(?P<matchers>[^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"})


@dataclass(frozen=True)
class Asked:
    metrics: dict[str, set[str]]
    """The labels of each metric's matchers."""
    groups: set[str]
    """Labels that results are grouped by."""


def parse(query: str) -> Asked:
    bare = _RANGE.sub("", _STRING.sub('""', query))
    groups = {
        label.strip() for found in _GROUPING.findall(bare) for label in found.split(",") if label.strip()
    }
    bare = _GROUPING.sub(" ", bare)
    metrics: dict[str, set[str]] = {}
    for match in _SELECTOR.finditer(bare):
        if not match["call"] and match["name"] not in _KEYWORDS:
            labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", match["matchers"] or "")
            metrics.setdefault(match["name"], set()).update(labels)
    return Asked(metrics, groups)
