"""Which handlers run: the streams of the modules that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from schemas.contract import Store, Stream, Subscription
from schemas.errors import ConfigurationError
from streams.topology import INVALIDATIONS


def load_subscriptions(modules: Sequence[str]) -> list[Subscription]:
    """The subscriptions of all `stream` objects in these modules.

    Raises:
        ConfigurationError: a module cannot be imported, has no stream, or shares a queue with another.
    """
    subscriptions: list[Subscription] = []
    for name in modules:
        try:
            stream = import_module(name).stream
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"STREAMS_HANDLERS names {name!r}: {error}") from error
        if not isinstance(stream, Stream):
            raise ConfigurationError(f"STREAMS_HANDLERS names {name!r}, whose `stream` is no Stream")
        subscriptions += stream.subscriptions
    queues = [subscription.queue for subscription in subscriptions]
    if len(set(queues)) != len(queues):
        raise ConfigurationError(f"two handlers share a queue: {', '.join(sorted(queues))}")
    return subscriptions


def require_updater(subscriptions: Sequence[Subscription]) -> None:
    """Invalidations that no queue takes would stay in the outbox for ever."""
    if not any(s.exchange == INVALIDATIONS and s.store is Store.REDIS for s in subscriptions):
        raise ConfigurationError(
            "no updater takes the exchange 'invalidations': add handlers.invalidations to STREAMS_HANDLERS"
        )
