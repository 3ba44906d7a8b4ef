"""Cutting what COPY writes: every row once, in order, in parts of equal length."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.bench.dump import NoDump, cut

HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">II", 0, 0)
TAIL = struct.pack(">h", -1)

Row = list[bytes | None]
BROKEN = (b"", HEAD[:-1], HEAD, HEAD + TAIL[:1], HEAD + struct.pack(">hi", 1, 3) + b"ab", b"x" * 30 + TAIL)
ROWS = st.lists(st.lists(st.none() | st.binary(max_size=20), max_size=4), max_size=30)


def packed(row: Row) -> bytes:
    fields = (struct.pack(">i", -1) if f is None else struct.pack(">i", len(f)) + f for f in row)
    return struct.pack(">h", len(row)) + b"".join(fields)


@given(ROWS, st.integers(1, 12))
def test_parts_are_files_that_hold_every_row_once_in_order(rows: list[Row], parts: int) -> None:
    data = b"".join(packed(row) for row in rows)
    files = cut(HEAD + data + TAIL, parts)
    assert len(files) == parts
    held = []
    for file in files:
        assert not file or (file.startswith(HEAD) and file.endswith(TAIL))
        held.append(file[len(HEAD) : -len(TAIL)])
    assert b"".join(held) == data
    at_each = [sum(len(packed(row)) for row in rows[: len(rows) * n // parts]) for n in range(parts + 1)]
    assert [len(part) for part in held] == [b - a for a, b in pairwise(at_each)]


def test_an_extended_header_is_every_parts() -> None:
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack(">II", 0, 3) + b"new"
    row = packed([b"1"])
    assert cut(head + row + row + TAIL, 2) == [head + row + TAIL] * 2


@pytest.mark.parametrize("data", BROKEN)
def test_what_copy_did_not_write_to_its_end_is_refused(data: bytes) -> None:
    with pytest.raises(NoDump):
        cut(data, 1)
