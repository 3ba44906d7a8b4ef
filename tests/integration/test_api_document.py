"""The read API shows the contract: JSON, YAML, and a page that loads nothing."""

from __future__ import annotations

import httpx
import orjson
import pytest
import yaml

from streams.api import contract_pages
from streams.asyncapi import Limits, build, to_html
from streams.registry import load_subscriptions
from streams.settings import Settings
from tests.api_support import NoCache, app_of


@pytest.fixture
async def client() -> httpx.AsyncClient:
    # Nothing here asks the database.
    app = app_of(None, NoCache(), api_open=False, documents=contract_pages(Settings.load()))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/asyncapi.json", "application/json"),
        ("/asyncapi.yaml", "application/yaml"),
        ("/asyncapi", "text/html; charset=utf-8"),
    ],
)
async def test_the_contract_is_shown_to_everybody(
    client: httpx.AsyncClient, path: str, content_type: str
) -> None:
    settings = Settings.load()
    document = build(load_subscriptions(settings.handlers), Limits.of(settings))
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    if path == "/asyncapi":
        assert answer.text == to_html(document)
        assert 'href="asyncapi.yaml"' in answer.text
    else:
        shown = orjson.loads(answer.content) if path.endswith("json") else yaml.safe_load(answer.text)
        assert shown == document
    assert (await client.get(path)).content == answer.content


async def test_operators_limits_show_in_the_served_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_RETENTION_DAYS", "90")
    body, _ = contract_pages(Settings.load())["/asyncapi.json"]()
    assert "between 90 days ago" in orjson.loads(body)["info"]["x-beyond-schemas"]["window"]
