"""Private PostgreSQL, Redis and RabbitMQ for the demonstration, for development and for tests.

Standard library only. The servers come from the machine's packages; `make setup` installs them.
"""

from streams.stack.local import LocalStack
from streams.stack.model import (
    SERVICES,
    Hardening,
    Service,
    ServiceStatus,
    StackError,
    StackStatus,
    StackUrls,
)

__all__ = [
    "SERVICES",
    "Hardening",
    "LocalStack",
    "Service",
    "ServiceStatus",
    "StackError",
    "StackStatus",
    "StackUrls",
]
