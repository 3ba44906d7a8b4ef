"""Where the elements of a JSON array begin and end, without parsing them.

An array is taken apart only when something in it is wrong: then each element is judged by itself, and
a refused one is kept as the bytes that its producer wrote. An element that is no valid JSON (a lone
surrogate, NaN, endless nesting) so costs only itself, as long as its strings and brackets close.
"""

from __future__ import annotations

import re
from typing import Final

# Up to and including the next bracket that stands outside of a string.
_TO_BRACKET: Final = re.compile(
    rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL
)
_SCALAR: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,\[\]{}"]++', re.DOTALL)
_SPACE: Final = re.compile(rb"[ \t\n\r]*+")


def elements(body: bytes, most: int | None = None) -> list[tuple[int, int]]:
    """The spans (start, end) of the elements of the array that `body` is; stops at `most` + 1 of them.

    Raises:
        ValueError: the body is no array, or its strings and brackets do not close.
    """
    position = _space(body, 0)
    if body[position : position + 1] != b"[":
        raise ValueError("it is not an array")
    spans: list[tuple[int, int]] = []
    position = _space(body, position + 1)
    if body[position : position + 1] == b"]":
        return _nothing_after(body, position + 1, spans)
    while True:
        end = _end(body, position)
        spans.append((position, end))
        if most is not None and len(spans) > most:
            return spans
        position = _space(body, end)
        follows = body[position : position + 1]
        if follows == b"]":
            return _nothing_after(body, position + 1, spans)
        if follows != b",":
            raise ValueError(f"a comma or the end is missing after element {len(spans)}")
        position = _space(body, position + 1)


def _end(body: bytes, start: int) -> int:
    """Where the value that starts here ends."""
    if body[start : start + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(body, start)
        if scalar is None:
            raise ValueError(f"there is no value at byte {start}")
        return scalar.end()
    depth = 0
    while True:
        match = _TO_BRACKET.match(body, start)
        if match is None:
            raise ValueError("a string or a bracket is not closed")
        start = match.end()
        depth += 1 if match[1] in (b"{", b"[") else -1
        if depth == 0:
            return start


def _space(body: bytes, position: int) -> int:
    match = _SPACE.match(body, position)
    return match.end() if match else position


def _nothing_after(body: bytes, position: int, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if _space(body, position) != len(body):
        raise ValueError("something follows the array")
    return spans
