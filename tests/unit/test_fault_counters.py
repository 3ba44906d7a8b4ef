"""The fault suite's own judgement: a row is good only with every counter as it must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.harness import table
from tests.fault.harness.counters import MUST_BE_ZERO, Row


def row(**counters: object) -> Row:
    return Row("a scenario", attempted=10, acknowledged=10, stored=10, **counters)  # type: ignore[arg-type]


def test_a_trial_that_sent_nothing_shows_nothing() -> None:
    assert row().ok
    assert not Row("a scenario").ok


@pytest.mark.parametrize("name", MUST_BE_ZERO)
def test_any_counter_that_must_be_zero_fails_the_row_and_shows_in_the_table(name: str) -> None:
    bad = row(**{name: ["it broke"] if name == "problems" else 1})
    assert not bad.ok
    assert not bad.as_json()["ok"]
    text = table.markdown([row(), bad], {"Run on": "today"}, 1)
    assert "Not as they must be" in text
    assert "| **a scenario** |" in text
    assert "BAD" in table.line(bad)


def test_the_document_is_replaced_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write_markdown(document, "new")
    assert document.read_text() == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    document.write_text("no markers")
    with pytest.raises(ValueError, match="no markers"):
        table.write_markdown(document, "new")
