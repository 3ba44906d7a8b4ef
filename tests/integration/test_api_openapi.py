"""The OpenAPI document is valid, good to read, and what the served API does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from handlers.problems import KINDS
from streams.api import Api
from streams.settings import Settings
from tests.api_support import (
    NoCache,
    add_agent,
    add_event,
    add_round,
    add_task,
    add_vote,
    app_of,
    insert,
)
from tests.support import eventually

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
async def document() -> dict[str, Any]:
    transport = httpx.ASGITransport(app=app_of(None, NoCache(), api_open=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/schema")).json() == (await client.get("/schema/openapi.json")).json()
        return dict((await client.get("/schema/openapi.json")).json())


def test_the_document_is_valid_and_every_route_tells_what_may_come(document: dict[str, Any]) -> None:
    validate(document)
    kinds = {kind.uri for kind in KINDS}
    for path, item in document["paths"].items():
        operation = item["get"]
        assert operation["summary"], path
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                assert parameter["description"], (path, parameter["name"])
        if not path.startswith("/v1/"):
            continue
        assert operation["security"] == [{"bearer": []}]
        assert {"200", "304", "400", "401", "429", "500", "503"} <= set(operation["responses"]), path
        assert ("{" in path) is ("404" in operation["responses"]), path
        for status, answer in operation["responses"].items():
            assert "(self" not in answer["description"]
            assert "data:" not in answer["description"]
            if int(status) >= 400:
                assert set(answer["content"]) == {"application/problem+json"}
                named = {word.strip("`().") for word in answer["description"].split() if "/problems/" in word}
                assert named
                assert named <= kinds


def test_examples_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    shown = 0
    for path, item in document["paths"].items():
        for media in item["get"]["responses"]["200"].get("content", {}).values():
            if "example" in media:
                schema = {**media["schema"], "components": document["components"]}
                validator = jsonschema.Draft202012Validator(
                    schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
                )
                assert not list(validator.iter_errors(media["example"])), path
                shown += 1
    assert shown >= 12


@pytest.fixture
async def served(database_url: str, database: asyncpg.Pool, redis_url: str) -> AsyncIterator[Any]:
    """The API behind Granian, with a row of everything: its address, and ids that are there."""
    agent, now = await add_agent(database, capabilities=["a"]), datetime.now(UTC)
    task = await add_task(database, agent_id=agent, user_id=agent, payload={"a": None}, error={"code": "x"})
    round_id = await add_round(database, options=["yes"], quorum=Decimal(1), opened_at=now)
    tally = {"choice": "yes", "weight": Decimal("1.5"), "votes": 1}
    created = await database.fetchval("SELECT created_at FROM rounds")
    await insert(database, "round_tallies", tally | {"round_id": round_id, "created_at": created})
    await add_vote(database, round_id, agent_id=agent)
    await add_event(database, task, data={"n": 1}, trace_id="ab" * 16)
    await insert(
        database, "agent_scores", {"agent_id": agent, "day": now.date(), "points": 10, "completed": 1}
    )
    api = Api(
        Settings.load(
            database_url=SecretStr(database_url), redis_url=SecretStr(redis_url), api_open=True, http_port=0
        )
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(api.run(stop))
    base = f"http://{api.host}:{api.port}"
    async with httpx.AsyncClient() as client:

        async def is_up() -> bool:
            try:
                return (await client.get(f"{base}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(is_up, "the API is up")
    ids = {"agent_id": agent, "user_id": agent, "task_id": task, "round_id": round_id}
    yield base, {name: str(value) for name, value in ids.items()} | {"period": "weekly", "name": "busy"}
    stop.set()
    await serving


async def test_schemathesis_finds_nothing_that_the_document_does_not_say(served: Any) -> None:
    base, ids = served
    await asyncio.to_thread(explore, base, ids)


def explore(base: str, ids: dict[str, str]) -> None:
    schema = schemathesis.openapi.from_url(f"{base}/schema/openapi.json")
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        there = {name: ids[name] for name in ids if f"{{{name}}}" in operation.path}

        def run(strategy: Any, checks: Any) -> None:
            @given(case=strategy)
            @EXAMPLES
            def check(case: Any) -> None:
                answer = case.call_and_validate(base_url=base, checks=checks)
                seen.add((case.operation.path, answer.status_code))

            check()

        run(operation.as_strategy(path_parameters=there), CHECKS)
        if operation.path.startswith("/v1/"):
            negative = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            run(negative, [*CHECKS, negative_data_rejection])
    paths = {operation.ok().path for operation in schema.get_all_operations()}
    assert {path for path, status in seen if status == 200} == paths
    assert {status for _, status in seen} >= {200, 400, 404}
