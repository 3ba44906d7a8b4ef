"""Commands to one Redis server or to a cluster, each reply with the epoch of the server that gave it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import structlog
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from streams.cache.client import RedisClient
from streams.cache.epoch import INFO, heard, read_info

log = structlog.get_logger(__name__)

Command = tuple[Any, ...]
Reply = tuple[Any, bytes]
"""What was answered, and the epoch of who answered."""


class Link:
    """Every method raises what redis-py raises, and ConnectionError where a master has become a replica."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis: Any = redis
        self._is_cluster = isinstance(redis, RedisCluster)

    async def ask(self, *commands: Command) -> list[Reply]:
        """Run commands of one key each; one round trip, to each of the servers if there are several."""
        try:
            if self._is_cluster and len(commands) > 1:
                return list(await asyncio.gather(*map(self._one, commands)))
            if len(commands) == 1:
                return [await self._one(commands[0])]
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, **_options(command))
            replies = await pipeline.execute()
        except ReadOnlyError as error:
            await self._leave()
            raise RedisConnectionError("the server has become a replica") from error
        except AttributeError as error:  # what redis-py trips over when another task closed the connection
            raise RedisConnectionError("the connection was closed") from error
        epoch = heard()
        return [(reply, epoch) for reply in replies]

    async def unlink(self, names: Sequence[str]) -> None:
        """Remove keys, in one command for each server or slot."""
        if not self._is_cluster:
            await self.ask(("UNLINK", *names))
            return
        slot = self._redis.keyslot
        pipeline = self._redis.pipeline()
        for _, group in groupby(sorted(names, key=slot), key=slot):
            pipeline.execute_command("UNLINK", *group)
        await pipeline.execute()

    async def epochs(self) -> frozenset[bytes]:
        """Ask every master for its epoch now; connections that were made in an earlier one are dropped."""
        if self._is_cluster:
            await self._redis.initialize()
            nodes = self._redis.get_primaries()
            return frozenset(await asyncio.gather(*(self._present(target_nodes=node) for node in nodes)))
        present, is_replica = await self._info()
        if is_replica or present != heard():
            await self._leave()
        if is_replica:
            raise RedisConnectionError("the server has become a replica")
        return frozenset((present,))

    async def _present(self, **options: Any) -> bytes:
        return (await self._info(**options))[0]

    async def _info(self, **options: Any) -> tuple[bytes, bool]:
        # As one word: redis-py splits it for the server, and leaves the answer as it came.
        return read_info(await self._redis.execute_command(" ".join(INFO), **options))

    async def _one(self, command: Command) -> Reply:
        if self._is_cluster:  # before it knows the nodes it sends GETEX to any of them
            await self._redis.initialize()
        reply = await self._redis.execute_command(*command, **_options(command))
        return reply, heard()

    async def _leave(self) -> None:
        """Have every connection made anew: the address may lead to another server by now."""
        if not self._is_cluster:
            log.warning("Redis is another one than it was: all connections are made anew")
            await self._redis.connection_pool.disconnect()


def _options(command: Command) -> dict[str, bool]:
    """What redis-py must know to return what SET ... GET answers, and not whether it is "OK"."""
    return {"get": True} if command[0] == "SET" else {}
