"""Files of `COPY ... (FORMAT binary)`, cut between rows.

A file is a header, rows (the number of fields, then each field's length and bytes; -1: null), and -1 as the
number of fields of what would be the next row.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from struct import Struct, error
from typing import Final

from schemas.errors import StreamsError

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_EXTENSION: Final = Struct(">4xI")
"""Flags, and the length of what follows them."""
_FIELDS: Final = Struct(">h")
_LENGTH: Final = Struct(">i")
_END: Final = -1


class NoDump(StreamsError):
    """These bytes are not what COPY writes in binary."""


def cut(data: bytes, parts: int) -> list[bytes]:
    """The rows in their order, in so many files of as equal length as can be; empty where a part has no row.

    Raises:
        NoDump: see there.
    """
    header = len(_SIGNATURE) + _EXTENSION.size
    if len(data) < header or not data.startswith(_SIGNATURE):
        raise NoDump("no header of COPY's binary format")
    header += _EXTENSION.unpack_from(data, len(_SIGNATURE))[0]
    begins = list(_begins(data, header))
    rows = len(begins) - 1
    edges = [begins[part * rows // parts] for part in range(parts + 1)]
    head, tail = data[:header], _FIELDS.pack(_END)
    return [head + data[begin:end] + tail if end > begin else b"" for begin, end in pairwise(edges)]


def _begins(data: bytes, position: int) -> Iterator[int]:
    """Where each row begins, and at last where the rows end."""
    fields_of, length_of = _FIELDS.unpack_from, _LENGTH.unpack_from
    try:
        while (fields := fields_of(data, position)[0]) != _END:
            yield position
            position += _FIELDS.size
            for _ in range(fields):
                position += _LENGTH.size + max(0, length_of(data, position)[0])
    except error:
        raise NoDump("ends in the middle of a row") from None
    yield position
