"""Everything that can be wrong with an event, named by what its producer has to do about it.

StreamsError
├── EventError             this event cannot be stored: quarantine it, its neighbours go on
│   ├── Undecodable        the bytes are not what the content type says
│   ├── UnknownType        no handler of this queue takes the event's type
│   ├── InvalidEvent       an attribute or a data field breaks the contract
│   ├── OutsideWindow      a date (the time, or one inside an id) lies where no partition may be
│   ├── TooLarge           a limit on bytes or on the number of events
│   └── Refused            a handler found the event impossible to apply
├── Unavailable            a server did not do its part: wait for it, no event is to blame
├── RetryBatch             the batch lost a race: roll back and run it again, nobody is to blame
└── ConfigurationError     the process cannot start like this; the message says what to set
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an event was quarantined: the `x-reason` header of a dead letter."""

    UNDECODABLE = "undecodable"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_EVENT = "invalid_event"
    OUTSIDE_WINDOW = "outside_window"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    DATABASE_REFUSED = "database_refused"
    HANDLER_FAILED = "handler_failed"
    KILLS_WORKER = "kills_worker"


class StreamsError(Exception):
    """Base of all errors that this project raises on purpose."""


class EventError(StreamsError):
    """One event cannot be stored, whatever is tried.

    Args:
        message: what is wrong and what the producer should send instead; at most a few hundred
            characters, never the payload itself.
        field: path of the culprit, as in `data.task_id`; empty when the whole message is at fault.
    """

    reason: Reason = Reason.INVALID_EVENT

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class Undecodable(EventError):
    reason = Reason.UNDECODABLE


class UnknownType(EventError):
    reason = Reason.UNKNOWN_TYPE


class InvalidEvent(EventError):
    reason = Reason.INVALID_EVENT


class OutsideWindow(EventError):
    reason = Reason.OUTSIDE_WINDOW


class TooLarge(EventError):
    reason = Reason.TOO_LARGE


class Refused(EventError):
    reason = Reason.REFUSED


class Unavailable(StreamsError):
    """A server is away or refused for reasons of its own; the same call may work later."""


class RetryBatch(StreamsError):
    """The transaction lost a race that a second run will not lose."""


class ConfigurationError(StreamsError):
    """A setting, or a combination of settings, that cannot work."""
