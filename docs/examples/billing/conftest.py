"""What `pytest docs/examples/billing` needs: the kit's fixtures, and the folder of our migrations."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import pytest

pytest_plugins = ["streams.testkit.fixtures"]


@pytest.fixture(scope="session")
def streams_migrations() -> Sequence[Path | str]:
    """The engine's migrations, then ours."""
    return [Path(str(resources.files("schemas") / "sql")), Path(__file__).parent / "sql"]
