"""The OpenAPI document of the read API."""

from __future__ import annotations

from typing import Any, Final

from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag

from handlers import views
from handlers.api.examples import EXAMPLES

_DESCRIPTION: Final = """\
Reads of what Agent Streams stored: tasks, agents, rounds of votes, leaderboards. Everything is JSON;
instants are RFC 3339 in UTC; ids are UUIDs.

**Tokens.** Send `Authorization: Bearer <token>` with the token of a session. A session reads the tasks of
its own user; with the role `operator`, those of all. Agents, rounds, votes and leaderboards are for
everybody with a session.

**Pages.** Lists answer `limit` rows (20 unless told, 100 at most) and `pagination.cursor`, which goes into
`cursor` of the next request with the same filters; `null` means that there are no more. A cursor is opaque
and belongs to its list, its filters and its order. Lists of at most 10,000 records can be read by `page`
number, too.

**Fields.** `fields=id,status` sends those fields only; so no field of a task, agent, round, vote, rank or
event is listed as required.

**Caches.** Every answer has an `ETag`; send it as `If-None-Match` and get 304 with no body while nothing
changed. `Cache-Status` (and `X-Cache`, shorter) says where the answer came from. `stale` means: the
database does not answer, and this is the last that was known.

**Limits.** `RateLimit-Policy` and `RateLimit` say what a user may ask and what is left; beyond it 429 with
`Retry-After`.

**Errors** are problem details (RFC 9457) with `type`, a page that says what to do, and `trace_id`.
"""
_TAGS: Final = {
    "agents": "Who works.",
    "tasks": "What is to be done, is being done, was done.",
    "rounds": "Votes, and what they decided.",
    "leaderboards": "Who earned most.",
    "service": "Health, and what problems mean.",
}

_HEADERS: Final = {
    name: {"schema": {"type": "string"}, "description": text}
    for name, text in {
        "ETag": "Of this answer; goes into `If-None-Match`.",
        "Cache-Status": "Where the answer came from (RFC 9211).",
        "X-Cache": "The same in a word: hit, miss, bypass or stale.",
        "RateLimit": "What is left of the limit, where there is one.",
    }.items()
}

# Put in by hand: Litestar leaves out what is null.
_EXAMPLES: Final = {view.__name__: example for view, example in EXAMPLES.items()}


class Document(JsonRenderPlugin):
    """The document as JSON.

    Paths of pages that show it are left out: they would load their scripts from elsewhere.
    """

    def __init__(self) -> None:
        super().__init__(path=["/", "/openapi.json"])

    def render(self, request: Any, openapi_schema: dict[str, Any]) -> bytes:
        return self.render_json(request, relaxed(openapi_schema))


def relaxed(document: dict[str, Any]) -> dict[str, Any]:
    """The document in which what `fields=` picks from is not required, with the headers of answers."""
    pickable = {view.__name__ for view in views.PICKABLE}
    schemas = {
        name: {key: value for key, value in schema.items() if key != "required"}
        if name in pickable
        else schema
        for name, schema in document["components"]["schemas"].items()
    }
    paths = {path: {"get": _told(path, item["get"])} for path, item in document["paths"].items()}
    return document | {"paths": paths, "components": document["components"] | {"schemas": schemas}}


def _told(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """An operation with a summary that reads well, the headers of what it answers, and an example."""
    summary = operation["description"].partition("\n")[0].removesuffix(".")
    answers = dict(operation["responses"])
    if path.startswith("/v1/"):
        answers |= {status: answers[status] | {"headers": _HEADERS} for status in ("200", "304")}
        content = {
            media_type: media | {"example": _EXAMPLES[media["schema"]["$ref"].rpartition("/")[2]]}
            for media_type, media in answers["200"]["content"].items()
        }
        answers["200"] = answers["200"] | {"content": content}
    return operation | {"summary": summary, "responses": answers}


def openapi_config(*, is_open: bool) -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="The token of a session.")
    return OpenAPIConfig(
        title="Agent Streams: read API",
        version="1",
        description=_DESCRIPTION,
        path="/schema",
        render_plugins=[Document()],
        use_handler_docstrings=True,
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        components=Components() if is_open else Components(security_schemes={"bearer": scheme}),
    )
