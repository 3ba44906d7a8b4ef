"""What is examined: the servers and processes, each seen through a probe that can only look."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from schemas.errors import StreamsError
from streams.doctor.limits import Limits
from streams.doctor.model import Section

if TYPE_CHECKING:
    from streams.doctor.postgres.probe import Postgres
    from streams.doctor.rabbitmq.probe import RabbitMQ
    from streams.doctor.redis.probe import Redis
    from streams.doctor.service.probe import Service
    from streams.settings import Settings

T = TypeVar("T")


class NotThere(StreamsError):
    """A server cannot be examined; the message says why, in one line without secrets."""


@dataclass(slots=True)
class Patient:
    """The whole system; a probe is None where its server could not be reached.

    Args:
        cores: of the database server; None: those of this machine, if the server is on it.
    """

    settings: Settings
    limits: Limits
    service: Service
    database: Postgres | None = None
    cache: Redis | None = None
    broker: RabbitMQ | None = None
    cores: int | None = None
    absent: dict[Section, str] = field(default_factory=dict)
    """Why a probe is None."""

    @property
    def postgres(self) -> Postgres:
        return self._there(self.database, Section.POSTGRES)

    @property
    def redis(self) -> Redis:
        return self._there(self.cache, Section.REDIS)

    @property
    def rabbitmq(self) -> RabbitMQ:
        return self._there(self.broker, Section.RABBITMQ)

    @property
    def database_cores(self) -> int | None:
        """Of the database server; None: nobody told, and it is another machine."""
        if self.cores is not None:
            return self.cores
        local = self.database is not None and self.database.is_local
        return (os.cpu_count() or 1) if local else None

    def _there(self, probe: T | None, section: Section) -> T:
        if probe is None:
            raise NotThere(self.absent.get(section, "not reached"))
        return probe
