"""Everything that can be wrong with an event, named by what its producer has to do about it.

StreamsError
├── EventError             this event cannot be stored: quarantine it, its neighbours go on
│   ├── Undecodable        the bytes are not what the content type says
│   ├── UnknownType        no handler of this queue takes the event's type
│   ├── InvalidEvent       an attribute or a data field breaks the contract
│   ├── OutsideWindow      a date (the time, or one inside an id) lies where no partition may be
│   ├── TooLarge           a limit on bytes or on the number of events
│   ├── Refused            a handler found the event impossible to apply
│   └── KillsWorker        workers died while they tried the event and nothing else
├── Unavailable            a server did not do its part: wait for it, no event is to blame
├── RetryBatch             the batch lost a race: roll back and run it again, nobody is to blame
├── LockTaken              somebody else does it already
├── LockLost               a lock expired under its holder: stop, somebody else may have begun
└── ConfigurationError     the process cannot start like this; the message says what to set
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Reason(StrEnum):
    """Why an event lies in quarantine; `REASONS` says what each means and what to do about it."""

    UNDECODABLE = "undecodable"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_EVENT = "invalid_event"
    OUTSIDE_WINDOW = "outside_window"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    DATABASE_REFUSED = "database_refused"
    HANDLER_FAILED = "handler_failed"
    KILLS_WORKER = "kills_worker"
    # Put there by the broker itself:
    UNROUTABLE = "unroutable"
    DELIVERY_LIMIT = "delivery_limit"
    EXPIRED = "expired"
    REJECTED = "rejected"
    FOREIGN = "foreign"


class Explanation(NamedTuple):
    """A reason code in words, for operators."""

    meaning: str
    remedy: str


_SEND_AGAIN = "The producer sends it again, corrected; drop the letter."

REASONS: Final[dict[Reason, Explanation]] = {
    Reason.UNDECODABLE: Explanation(
        "The bytes are not what the content type says: no JSON, no UTF-8, an unknown content type.",
        _SEND_AGAIN,
    ),
    Reason.UNKNOWN_TYPE: Explanation(
        "No handler of this queue takes the event's type.",
        "Deploy the handler, then replay; or drop it if the type was a mistake.",
    ),
    Reason.INVALID_EVENT: Explanation(
        "An attribute or a field of `data` breaks the contract; the letter names the field.",
        f"{_SEND_AGAIN} If the contract was too narrow: widen it, deploy, replay.",
    ),
    Reason.OUTSIDE_WINDOW: Explanation(
        "Its time, or the time inside an id, lies before what is kept or too far ahead.",
        "Check the producer's clock. Replay once the date lies in the window; drop what is too old.",
    ),
    Reason.TOO_LARGE: Explanation(
        "The message has too many bytes, or the array too many events.",
        "The producer sends less at a time; or raise the limit that the letter names, restart, replay.",
    ),
    Reason.REFUSED: Explanation(
        "A handler found the event impossible to apply.",
        "The message says why. Repair what it names, then replay; or drop it.",
    ),
    Reason.DATABASE_REFUSED: Explanation(
        "PostgreSQL refused the event's values: a constraint, or a type that cannot hold them.",
        "Look at SQLSTATE and column in the letter. Mostly a contract wider than its table: migrate, replay.",
    ),
    Reason.HANDLER_FAILED: Explanation(
        "The handler raised an error on this event and not on others.",
        "A bug of the handler: the worker's log has its name. Fix, deploy, replay.",
    ),
    Reason.KILLS_WORKER: Explanation(
        "Workers died or were killed whenever they had this event, the last time with nothing else at hand.",
        "Look for the cause (memory, time-outs, a crash in native code) before you replay it.",
    ),
    Reason.UNROUTABLE: Explanation(
        "No queue took the message: nothing is bound for its exchange and routing key.",
        "Start the worker whose queue is missing (it declares it), then replay; or correct the producer.",
    ),
    Reason.DELIVERY_LIMIT: Explanation(
        "The broker gave up after delivering it hundreds of times.",
        "Workers lost their connection or died time after time. Find out why, then replay.",
    ),
    Reason.EXPIRED: Explanation(
        "The producer gave the message a time to live, and it ran out before a worker had it.",
        "Replay if it still matters (it then has no time to live); ask the producer for none.",
    ),
    Reason.REJECTED: Explanation(
        "Somebody rejected the message by hand; our workers never do.",
        "Ask who used the queue. Replay if it was a mistake.",
    ),
    Reason.FOREIGN: Explanation(
        "Somebody published the message straight to `dead-letters`: nothing says where it belongs.",
        "It cannot be replayed. Look at it with `streams dlq show`, then drop it.",
    ),
}


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


class KillsWorker(EventError):
    reason = Reason.KILLS_WORKER


class Unavailable(StreamsError):
    """A server is away or refused for reasons of its own; the same call may work later."""


class RetryBatch(StreamsError):
    """The transaction lost a race that a second run will not lose."""


class LockTaken(StreamsError):
    """Somebody else holds the lock."""


class LockLost(StreamsError):
    """The lock expired while it was held, or what it guards has seen a later holder."""


class ConfigurationError(StreamsError):
    """A setting, or a combination of settings, that cannot work."""
