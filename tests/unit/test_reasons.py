"""The reason codes and the limits: explained in one place, and told to operators in the same words."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import REASONS, Reason
from streams.settings import Settings

OPERATIONS = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == set(Reason)
    for meaning, remedy in REASONS.values():
        assert meaning.endswith(".")
        assert remedy.endswith(".")


def test_the_table_for_operators_is_complete_and_up_to_date() -> None:
    rows = [f"| `{reason}` | {each.meaning} | {each.remedy} |" for reason, each in REASONS.items()]
    assert "\n".join(rows) in OPERATIONS, "\n".join(rows)


def test_the_limits_for_operators_are_those_of_the_settings() -> None:
    limits = (
        "max_message_bytes",
        "max_events_per_message",
        "max_json_depth",
        "clock_skew_seconds",
        "retention_days",
    )
    for name in limits:
        default = Settings.model_fields[name].default
        assert f"| `STREAMS_{name.upper()}` | {default} |" in OPERATIONS
