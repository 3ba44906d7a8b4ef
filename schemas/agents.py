"""Agents: who does the work and casts the votes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.envelope import Data, Event
from schemas.fields import Name


class AgentStatus(StrEnum):
    ACTIVE = "active"
    PROCESSING = "processing"
    INACTIVE = "inactive"
    PAUSED = "paused"


class AgentData(Data):
    agent_id: UUID


class AgentEventBase(Event):
    exchange: ClassVar[str] = "agents"
    entity: ClassVar[str] = "agent_id"


class RegisteredData(AgentData):
    name: Name
    capabilities: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    is_active: bool = True


class StatusChangedData(AgentData):
    status: AgentStatus


class AgentRegistered(AgentEventBase):
    rank: ClassVar[int] = 0
    type: Literal["agent.registered"] = "agent.registered"
    data: RegisteredData


class AgentStatusChanged(AgentEventBase):
    rank: ClassVar[int] = 1
    type: Literal["agent.status_changed"] = "agent.status_changed"
    data: StatusChangedData


AgentEvent = AgentRegistered | AgentStatusChanged
