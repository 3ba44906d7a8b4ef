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
    r"|\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?(?P<source>(?!LATERAL\b)[\w.\"]+)\b(?P<call>\s*\()?",
    re.IGNORECASE,
)
_CALL = re.compile(r"\bSELECT\s+(\w+)\s*\(", re.IGNORECASE)
# Functions that turn an argument into rows: what is read is the argument.
_EXPANDING = re.compile(r"unnest|generate_series|jsonb?_\w+|rows|string_to_table|regexp_\w+", re.IGNORECASE)
# What asyncpg asks the first time that a connection meets a type of its own.
_INTROSPECTION = "typeinfo_tree"


class Summary(NamedTuple):
    operation: str
    text: str


@lru_cache(maxsize=512)
def summarize(statement: str) -> Summary:
    """The first operation of a statement, and all its operations with what they read or write: tables, and
    functions of ours.

    Statements belong to the code and are few, so neither the result nor the cache grows with data.
    """
    if _INTROSPECTION in statement:
        return Summary("SELECT", "SELECT pg_type")
    bare = _NOISE.sub(" ", statement)
    ours = {name.lower() for name in _COMMON_TABLE.findall(bare)}
    operations: list[list[str]] = []
    for match in _CLAUSE.finditer(bare):
        if verb := match["verb"] or match["select"]:
            operations.append([verb.split()[0].upper()])
        if target := (match["table"] or "").replace('"', "") or _source(match):
            words = operations[-1] if operations else []
            if target.lower() not in ours and target not in words:
                words.append(target)
    if not operations:
        first = [first.upper() for first in re.findall(r"[A-Za-z]+", bare)[:1]] or ["OTHER"]
        return Summary(first[0], first[0])
    # A SELECT of nothing is part of another statement; where there is no other, it calls something.
    telling = [words for words in operations if len(words) > 1]
    if not telling:
        call = _CALL.search(bare)
        telling = [[operations[0][0], *([call[1]] if call else [])]]
    text = " ".join(word for words in telling for word in words)
    return Summary(telling[0][0], text[:_MAX_LENGTH])


def _source(match: re.Match[str]) -> str:
    name = (match["source"] or "").replace('"', "")
    return "" if match["call"] and _EXPANDING.fullmatch(name) else name
