"""requirements.lock is what `make setup` installs: exact, verified by hash, and from no particular place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENT = re.compile(r"([a-z0-9][a-z0-9.-]*)(?:\[[a-z0-9,-]+\])?==[0-9][\w.!+]*( ; [^\\]+)?")


def requirements(lock: str = "requirements.lock") -> dict[str, list[str]]:
    """The hashes of each requirement by its name."""
    text = re.sub(r"\\\n", "", (ROOT / lock).read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line.partition("  #")[0])
        match = REQUIREMENT.fullmatch(requirement.strip())
        assert match, f"not pinned: {line[:80]}"
        found.setdefault(match[1], []).extend(hashes)
    return found


def test_every_requirement_is_pinned_and_has_hashes() -> None:
    locked = requirements()
    assert len(locked) > 50
    for name, hashes in locked.items():
        assert hashes, f"{name} has no hash"
        for digest in hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()), (name, digest)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements.runtime.lock"])
def test_no_index_and_no_address_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|-e|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE
    )


def test_all_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in asked}
    assert sorted(names - requirements().keys()) == []


def test_setup_insists_on_hashes() -> None:
    assert "--require-hashes" in (ROOT / "scripts" / "setup.sh").read_text()
