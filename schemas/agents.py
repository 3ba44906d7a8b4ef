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
    """The agent."""


class AgentEventBase(Event):
    exchange: ClassVar[str] = "agents"
    entity: ClassVar[str] = "agent_id"


class RegisteredData(AgentData):
    name: Annotated[Name, Field(examples=["Ada"])]
    """For people."""
    capabilities: Annotated[
        tuple[Name, ...], Field(max_length=100, examples=[["research", "summarise"]])
    ] = ()
    """What it can do."""
    is_active: bool = True
    """Whether it takes work: its status is `active` or `inactive` until an event says otherwise."""


class StatusChangedData(AgentData):
    status: Annotated[AgentStatus, Field(examples=["processing"])]
    """What it does now."""


class AgentRegistered(AgentEventBase):
    """An agent exists, or has another name, other capabilities."""

    rank: ClassVar[int] = 0
    type: Literal["agent.registered"] = "agent.registered"
    data: RegisteredData


class AgentStatusChanged(AgentEventBase):
    """An agent does something else now."""

    rank: ClassVar[int] = 1
    type: Literal["agent.status_changed"] = "agent.status_changed"
    data: StatusChangedData


AgentEvent = AgentRegistered | AgentStatusChanged
