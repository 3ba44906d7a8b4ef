"""Which life of which Redis server said something.

Replication is asynchronous: a replica that is promoted may lack invalidations that its master had applied,
and so may a server that restarts from an old dump. What they still hold from before is not to be trusted. So
everything that is stored names the *epoch* of the server that it was stored on, and is dead under any other.
An epoch is a digest of the server's run id, which changes with every start, and of its replication id, which
changes with every promotion as well: a server that is demoted and promoted again has a new one.

Each connection learns the epoch when it is made, since it leads to one server for all its life; `heard`
tells which epoch the latest reply in the present task came from.
"""

from __future__ import annotations

import os
import re
import ssl
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

log = structlog.get_logger(__name__)

EPOCH_BYTES: Final = 8
INFO: Final = ("INFO", "server", "replication")

_FIELDS: Final = re.compile(rb"^(run_id|master_replid|role):(\w+)", re.MULTILINE)
_heard: ContextVar[bytes] = ContextVar("heard", default=b"")


def heard() -> bytes:
    """The epoch of the server that the latest reply in this task came from."""
    return _heard.get()


def read_info(info: bytes) -> tuple[bytes, bool]:
    """The epoch of a server by its INFO, and whether it is a replica."""
    fields = dict(_FIELDS.findall(info))
    identity = fields.get(b"run_id", b"") + fields.get(b"master_replid", b"")
    return blake2b(identity, digest_size=EPOCH_BYTES).digest(), fields.get(b"role") == b"slave"


if TYPE_CHECKING:
    _Base = Connection
else:
    _Base = object


class _Learning(_Base):
    """Learns the epoch of its server, and tells it with each reply.

    Args:
        masters_only: refuse to connect to a replica, where a moved name or address should have led to its
            master. In a cluster a replica sends us on by itself.
    """

    def __init__(self, *, masters_only: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._masters_only = masters_only
        self.epoch = b""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self.epoch = b""
        await super().on_connect_check_health(check_health)
        await self.send_command(*INFO, check_health=False)
        try:
            info = await super().read_response(disable_decoding=True)
        except NoPermissionError:
            # Then no connection believes what another has stored: slow, but right.
            log.warning(
                "Redis does not let us ask INFO: nothing that is cached can be trusted", user=self.username
            )
            self.epoch = os.urandom(EPOCH_BYTES)
            return
        self.epoch, is_replica = read_info(bytes(info))
        if is_replica and self._masters_only:
            raise RedisConnectionError("the server is a replica: REDIS_URL must lead to its master")

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)
        except RuntimeError as error:
            # uvloop's word for a transport that has been closed meanwhile. An OSError would have become this.
            raise RedisConnectionError("the connection was closed") from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        response = await super().read_response(*args, **options)
        _heard.set(self.epoch)
        return response


class PlainConnection(_Learning, Connection):
    pass


class UnixConnection(_Learning, UnixDomainSocketConnection):
    pass


class VerifiedConnection(_Learning, SSLConnection):
    """Uses the context that it is given: redis-py's own would trust the system's authorities beside ours."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context
