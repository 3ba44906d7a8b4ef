"""Cursors and pages."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.paging import MAX_PAGE_BYTES, Page, ParameterError, choose, decode_cursor, encode, encode_cursor

INSTANTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=255)


@given(INSTANTS, st.uuids(), TEXTS)
def test_a_cursor_comes_back_as_it_went(instant: datetime, some_id: UUID, text: str) -> None:
    position = (instant, some_id, text)
    assert decode_cursor(encode_cursor(position, "s"), (datetime, UUID, str), "s") == position


@given(st.text(max_size=100))
def test_any_other_text_is_refused_or_one_of_ours(text: str) -> None:
    try:
        position = decode_cursor(text, (datetime, UUID), "s")
    except ParameterError:
        return
    assert encode_cursor(position, "s") == text


def test_decimals_stay_exact() -> None:
    values = [
        Decimal("0.100000"),
        Decimal("123456789012.000001"),
        Decimal(5),
        Decimal("1E+3"),
        Decimal("0.000000"),
    ]
    assert encode(values) == b"[0.1,123456789012.000001,5,1000,0]"
    with pytest.raises(TypeError):
        encode(Decimal("NaN"))


def page(sizes: list[int], limit: int) -> Page:
    rows = [{"id": UUID(int=n), "x": "x" * size, "hidden": n} for n, size in enumerate(sizes)]
    return Page(rows, limit, len(rows), lambda row: (row["id"],), "s", frozenset({"hidden"}))


@pytest.mark.parametrize(
    ("sizes", "limit", "shown", "more"),
    [
        ([], 2, 0, False),
        ([1], 2, 1, False),
        ([1, 1], 2, 2, False),
        ([1, 1, 1], 2, 2, True),
        ([MAX_PAGE_BYTES], 2, 1, False),
        ([MAX_PAGE_BYTES, 1], 2, 1, True),
        ([1, MAX_PAGE_BYTES], 2, 1, True),
        ([400_000, 400_000, 400_000, 1], 3, 2, True),
    ],
)
def test_pages_end_at_the_limit_or_at_a_megabyte(
    sizes: list[int], limit: int, shown: int, more: bool
) -> None:
    body = orjson.loads(page(sizes, limit).encode())
    assert [UUID(row["id"]).int for row in body["data"]] == list(range(shown))
    assert body["pagination"]["has_more"] is more
    assert all("hidden" not in row for row in body["data"])
    cursor = body["pagination"]["cursor"]
    assert (cursor is not None) is more
    if more:
        assert decode_cursor(cursor, (UUID,), "s") == (UUID(int=shown - 1),)


def test_fields_are_chosen_from_the_list_and_in_its_order() -> None:
    assert choose(None, ("a", "b"), ("a",)) == ("a",)
    assert choose("b,a,b", ("a", "b"), ()) == ("a", "b")
    for text in ("", "c", "a,", "a b", "A"):
        with pytest.raises(ParameterError):
            choose(text, ("a", "b"), ())
