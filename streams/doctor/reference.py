"""The list of all checks, as docs/doctor.md has it."""

from __future__ import annotations

from collections.abc import Sequence

from streams.doctor.model import Check, Section


def reference(checks: Sequence[Check]) -> str:
    """Markdown: a section for each server, a row for each check."""
    parts = []
    for section in Section:
        own = [check for check in checks if check.section is section]
        if own:
            rows = "\n".join(_row(check) for check in own)
            parts.append(
                f"### {section}\n\n| check | looks at | target | of the guide |\n|---|---|---|---|\n{rows}"
            )
    return "\n\n".join(parts)


def _row(check: Check) -> str:
    name = check.name.partition(".")[2]
    later = " (after the window)" if check.late else ""
    return f"| `{name}` | {check.looks_at}{later} | {check.target} | {check.guide or 'ours'} |".replace(
        "|  |", "| |"
    )
