"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import troubled


@pytest.fixture(autouse=True)
def _no_trouble_left() -> Iterator[None]:
    """Whatever a test does to the troubled handler ends with it."""
    troubled.reset()
    yield
    troubled.reset()
