"""RabbitMQ as its management API shows it; GET requests only."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from streams import tls
from streams.doctor.patient import NotThere
from streams.scrape.management import HELP, management_client
from streams.topology import Topology


class RabbitMQ:
    """One virtual host's queues, and the nodes.

    Args:
        management: base of the API, with user and password.
        amqp: AMQP_URL, whose virtual host is looked at.
        topology: what our own subscriptions need.
        ca: PEM file of who signs an https:// certificate; None: whom the system trusts.
        seconds: for each request.

    Raises:
        ConfigurationError: the URL cannot be read.
    """

    def __init__(
        self, management: str, amqp: str, topology: Topology, *, ca: str | None, seconds: float
    ) -> None:
        self._amqp = amqp
        self._http = management_client(management, ca=ca, seconds=seconds)
        self._parts = urlsplit(management)
        self.topology = topology
        self.vhost = unquote(urlsplit(amqp).path[1:]) or "/"
        self.overview: Mapping[str, Any] = {}
        self.nodes: Sequence[Mapping[str, Any]] = ()
        self.queues: Mapping[str, Mapping[str, Any]] = {}
        self.clock_ahead: float | None = None
        self.clock_doubt = 0.0

    async def connect(self) -> None:
        """Ask for the overview, the nodes and the queues.

        Raises:
            NotThere: the API cannot be reached or refuses us.
        """
        asked = time.time()
        try:
            answer = await self._http.get("/api/overview")
            received = time.time()
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise NotThere("the management API refuses this login: it needs the tag `monitoring`")
            answer.raise_for_status()
            self.overview = answer.json()
            self.nodes = await self.get("/api/nodes")
            self.queues = {q["name"]: q for q in await self.get(f"/api/queues/{quote(self.vhost, safe='')}")}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NotThere(f"the management API does not answer: {type(error).__name__}; {HELP}") from error
        if stamp := answer.headers.get("date"):
            # Whole seconds: the middle of the second that it names.
            told = email.utils.parsedate_to_datetime(stamp).timestamp() + 0.5
            self.clock_ahead, self.clock_doubt = told - (asked + received) / 2, 0.5 + (received - asked) / 2

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            httpx.HTTPError: no answer, or one that is no success.
        """
        answer = await self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    async def connections(self) -> list[Mapping[str, Any]]:
        """Connections to our virtual host."""
        found = await self.get("/api/connections")
        return [c for c in found if isinstance(c, dict) and c.get("vhost") == self.vhost]

    @property
    def version(self) -> tuple[int, ...]:
        """As numbers: (3, 10, 8)."""
        numbers = str(self.overview.get("rabbitmq_version", "0")).split("-")[0].split("+")[0].split(".")
        return tuple(int(number) for number in numbers if number.isdigit())

    @property
    def is_local(self) -> bool:
        return all(map(tls.is_loopback, tls.hosts(urlsplit(self._amqp))))

    @property
    def uses_tls(self) -> bool:
        return tls.AMQP.is_secure(urlsplit(self._amqp))

    @property
    def management_is_safe(self) -> bool:
        return self._parts.scheme == "https" or tls.is_loopback(self._parts.hostname or "")

    def ours(self) -> list[Mapping[str, Any]]:
        """The queues of our topology that exist, quarantine included."""
        return [self.queues[queue.name] for queue in self.topology.queues if queue.name in self.queues]
