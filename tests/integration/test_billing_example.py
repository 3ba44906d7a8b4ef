"""The tests that the example of docs/testing-handlers.md brings along run here, too."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import pytest
from billing.test_billing import *  # noqa: F403 - its tests become ours

from tests.support import EXAMPLES


@pytest.fixture(scope="session")
def streams_migrations() -> Sequence[Path | str]:
    return [Path(str(resources.files("schemas") / "sql")), EXAMPLES / "billing" / "sql"]
