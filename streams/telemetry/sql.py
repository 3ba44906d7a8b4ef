"""A statement's summary: which operations on which tables, without a single value.

What OpenTelemetry calls `db.query.summary`, as in "INSERT event_claims" or "UPDATE tasks".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_MAX_LENGTH = 255

_NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_COMMON_TABLE = re.compile(
    r"(?:\bWITH(?:\s+RECURSIVE)?|,)\s+(\w+)(?:\s*\([^()]*\))?\s+AS\s*(?:(?:NOT\s+)?MATERIALIZED\s*)?\(",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    # Words that look like the ones below and are not.
    r"\b(?:FOR\s+(?:NO\s+KEY\s+)?UPDATE|DO\s+UPDATE|DISTINCT\s+FROM)\b"
    r"|\b(?P<verb>INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|COPY)\s+(?:ONLY\s+)?(?P<table>[\w.\"]+)"
    r"|\b(?P<select>SELECT)\b"
    r"|\b(?:FROM|JOIN)\s+(?:ONLY\s+)?(?P<source>[\w.\"]+)\b(?!\s*\()",
    re.IGNORECASE,
)


class Summary(NamedTuple):
    operation: str
    text: str


@lru_cache(maxsize=512)
def summarize(statement: str) -> Summary:
    """The first operation of a statement, and all its operations with their tables.

    Statements belong to the code and are few, so neither the result nor the cache grows with data.
    """
    bare = _NOISE.sub(" ", statement)
    ours = {name.lower() for name in _COMMON_TABLE.findall(bare)}
    words: list[str] = []
    for match in _CLAUSE.finditer(bare):
        if verb := match["verb"] or match["select"]:
            words.append(verb.split()[0].upper())
        table = match["table"] or match["source"]
        if table and table.lower() not in ours:
            words.append(table.replace('"', ""))
    if not words:
        words = [first.upper() for first in re.findall(r"[A-Za-z]+", bare)[:1]] or ["OTHER"]
    return Summary(words[0], " ".join(words)[:_MAX_LENGTH])
