from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.security.secured import Secured, new_stack
from tests.security.service import Evidence, observe


@pytest.fixture(scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """Servers with TLS and least-privileged users, everything in place for a service."""
    made = new_stack(tmp_path_factory.mktemp("secured"))
    with made.stack:
        await made.prepare()
        yield made


@pytest.fixture(scope="session")
async def evidence(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What a service did and said while marked events went through it, the good way and the bad."""
    return await observe(secured, tmp_path_factory.mktemp("service"))
