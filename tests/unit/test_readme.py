"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from streams.settings import Settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_settings() -> None:
    table = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {what} |"
        for name, default, what in Settings.table()
    ]
    assert "\n".join(table) in README, "\n".join(table)


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"(?:streams|handlers|schemas|docs)/[\w/.-]*\w", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
