"""The application: routes, what surrounds them, and the limits that hold for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from litestar import Litestar, Router
from litestar.config.compression import CompressionConfig
from litestar.di import Provide

from handlers.access import Access, Limiter, Quota
from handlers.api import agents, rounds, service, tasks
from handlers.api import leaderboards as boards
from handlers.api.document import openapi_config
from handlers.api.parameters import refuse_unknown
from handlers.gate import Gate
from handlers.leaderboards import Leaderboards
from handlers.lists import Lists
from handlers.problems import EXCEPTION_HANDLERS
from handlers.queries import Queries
from handlers.reads import Cache, Reads
from handlers.selecting import Pool, Rows
from handlers.shell import Deadline, Metrics, Shell

V1 = (*agents.ROUTES, *tasks.ROUTES, *rounds.ROUTES, *boards.ROUTES)


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take.

    Args:
        quota: requests of a user (of an address where nobody needs a token); None for no limit.
        seconds: how long a request may take.
        heavy: statements that may read many rows, at work at the same time; the rest wait, or are refused.
    """

    quota: Quota | None = None
    seconds: float = 15.0
    heavy: int = 4


def create_app(
    *,
    pool: Pool,
    cache: Cache,
    metrics: Metrics,
    limiter: Limiter,
    is_open: bool,
    limits: Limits,
    documents: Mapping[str, Callable[[], tuple[bytes, str]]] | None = None,
    leaderboards: Leaderboards | None = None,
) -> Shell:
    """The application. It neither opens nor closes what it is given.

    Args:
        is_open: answer without bearer tokens; for development only.
        documents: what else is shown to everybody, by path: functions that return a body and its content
            type. They run in a thread.
        leaderboards: those in Redis; without them they are read from the database.
    """
    rows = Rows(pool, Gate(limits.heavy))
    reads = Reads(Queries(rows), Lists(rows), cache, leaderboards)
    v1 = Router(
        "/v1",
        route_handlers=V1,
        before_request=refuse_unknown,
        middleware=[Access(reads, limiter, limits.quota, is_open=is_open)],
        security=[] if is_open else [{"bearer": []}],
    )
    app = Litestar(
        route_handlers=[
            v1,
            *service.ROUTES,
            service.measurements(metrics),
            *service.documents(documents or {}),
        ],
        dependencies={"reads": Provide(lambda: reads, use_cache=True, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[Deadline(limits.seconds)],
        compression_config=CompressionConfig(backend="gzip", minimum_size=1024, gzip_compress_level=6),
        openapi_config=openapi_config(is_open=is_open),
        logging_config=None,  # the process configures logging, not the application
    )
    return Shell(app, metrics)
