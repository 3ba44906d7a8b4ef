"""The edge: FastStream subscribers on RabbitMQ, each with a channel of its own.

FastStream gives the connection, the subscription and the AsyncAPI document. Per message it would also
give a middleware stack, context scopes and dependency injection (100 µs); `BatchSubscriber` takes
deliveries from the tap on the connection (`streams.tap`, 4 µs), or, without it, as aio-pika makes them
(60 µs). Either way they are handed on unacknowledged, in the order of delivery.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Union

import aiormq.exceptions
import structlog
from aio_pika import IncomingMessage
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber import SubscriberUsecase
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.subscriber.config import RabbitSubscriberConfig, RabbitSubscriberSpecificationConfig
from faststream.rabbit.subscriber.specification import RabbitSubscriberSpecification
from faststream.rabbit.subscriber.usecase import RabbitSubscriber

from schemas.contract import Subscription
from streams.acks import AckTracker
from streams.amqp import Connection
from streams.delivery import Delivery
from streams.publisher import named
from streams.tap import TappedConnection, Taps

log = structlog.get_logger(__name__)

Accept = Callable[[Delivery], None]

_NAMES: Final = 8  # of consumers past, for which something may still be under way


class Broker(RabbitBroker):
    """FastStream's broker, on a connection with a tap.

    Args:
        name: shows as the connection's name in RabbitMQ's management.
        tap: False leaves all to aio-pika.
    """

    def __init__(self, url: str, name: str, *, tap: bool = True) -> None:
        super().__init__(
            named(url, name),
            logger=None,
            apply_types=False,
            specification_url="amqp://rabbitmq",  # the default would document our password
        )
        self.taps = Taps() if tap else None
        self._connection_kwargs["connection_class"] = (
            Connection if self.taps is None else partial(TappedConnection, taps=self.taps)
        )

    async def end(self) -> None:
        """Close the connection at once: consumers are cancelled by then, and FastStream's `stop` would wait
        for each of them on a link that may be half open, while the library goes on to reconnect."""
        if self._connection is not None:
            await self._connection.close()

    def hold(self) -> None:
        """Read no more deliveries until `resume`. Not for long: RabbitMQ gives up on a connection that is not
        read for 30 seconds, and hears no heartbeat. Without a tap nothing happens."""
        if self.taps is not None and self.taps.current is not None:
            self.taps.current.hold()

    def resume(self) -> None:
        """Read on."""
        if self.taps is not None and self.taps.current is not None:
            self.taps.current.resume()


class BatchSubscriber(RabbitSubscriber):
    """A FastStream subscriber whose messages go to `accept`, and are settled by whoever accepted them."""

    accept: Accept
    taps: Taps | None = None
    _tags: deque[str]
    """Names of our consumer, the newest last."""
    _acks: AckTracker | None = None
    _incarnation: object = None

    async def start(self) -> None:
        """Begin to consume. FastStream's own `start` cannot name the consumer, which the tap knows it by."""
        if self._consumer_tag is not None:
            return  # a beginning that failed at another queue, and is tried again: aio-pika keeps this one
        await SubscriberUsecase.start(self)
        self._queue_obj = await self._outer_config.declarer.declare_queue(self.queue, channel=self.channel)
        self._consumer_tag = await self._queue_obj.consume(
            self.consume,  # type: ignore[arg-type]
            consumer_tag=self._new_tag(),
        )
        self._post_start()

    def _new_tag(self) -> str:
        """A name for a consumer of ours, never used before, which the tap knows."""
        tag = f"{self.queue.name}.{uuid.uuid4()}"
        if self.taps is not None:
            self.taps.register(tag, self._accept_tapped)
            self._tags.append(tag)
            if len(self._tags) > _NAMES:
                self.taps.forget(self._tags.popleft())
        return tag

    def _accept_tapped(self, delivery: Delivery) -> None:
        self._acks = delivery.acks
        self.accept(delivery)

    async def consume(self, msg: IncomingMessage) -> None:
        """One delivery without a tap. Called by aio-pika in a task of its own, in the order of delivery."""
        if self.taps is not None:
            return  # the tap let it pass because its channel is being closed: it is delivered again
        channel = msg.channel
        if channel is not self._incarnation:
            # A reconnect made a new channel: its tags start at 1, the old ones mean nothing any more.
            if self._acks is not None:
                self._acks.closed = True
            self._incarnation, self._acks = channel, AckTracker(_acknowledger(channel))
        acks = self._acks
        tag = msg.delivery_tag
        assert acks is not None
        assert tag is not None
        acks.received(tag)
        self.accept(
            Delivery(
                body=msg.body,
                content_type=msg.content_type or "",
                headers=msg.headers,
                message_id=msg.message_id,
                type=msg.type,
                timestamp=msg.timestamp,
                app_id=msg.app_id,
                exchange=msg.exchange or "",
                routing_key=msg.routing_key or "",
                tag=tag,
                acks=acks,
                received_ns=time.time_ns(),
                delivery_count=_delivery_count(msg),
                others=partial(_others, msg),
            )
        )

    async def cancel(self) -> None:
        """Stop deliveries; what was delivered stays ours until it is acknowledged or the channel closes."""
        queue, tag = self._queue_obj, self._consumer_tag
        if queue is not None and tag is not None and not queue.channel.is_closed:
            self._consumer_tag = None
            await queue.cancel(tag)

    async def give_back(self) -> None:
        """Return what is not acknowledged to the broker, and be given nothing more until `take_up`."""
        if self._queue_obj is not None:
            await self._queue_obj.channel.close()

    async def take_up(self, prefetch: int) -> None:
        """Consume again after `give_back`; on a new channel, as after a reconnect.

        Raises:
            ChannelInvalidStateError: the connection is not there yet.
        """
        queue: Any = self._queue_obj
        channel = queue.channel
        channel._prefetch_count = prefetch  # what restoring asks for, before it brings the consumer back
        channel._close_called = False
        await channel.restore()
        if channel.is_closed:
            raise aiormq.exceptions.ChannelInvalidStateError("not restored")
        if self._consumer_tag not in queue._consumers:
            await queue.consume(self.consume, consumer_tag=self._consumer_tag)

    async def set_prefetch(self, prefetch: int) -> None:
        """Consume with another prefetch from now on. It holds for new consumers only: so be one.

        By a new name, too: where one comes back whose messages are still under way, RabbitMQ before 3.10.9
        and 3.11.1 crashes the channel and closes the connection (rabbitmq-server issue 5927).
        """
        queue, tag = self._queue_obj, self._consumer_tag
        if queue is not None and tag is not None:
            await queue.cancel(tag)
            await queue.channel.set_qos(prefetch)
            self._consumer_tag = self._new_tag()
            await queue.consume(self.consume, consumer_tag=self._consumer_tag)  # type: ignore[arg-type]

    @property
    def is_consuming(self) -> bool:
        """Whether its channel is open; False between a lost connection and its repair."""
        return self._queue_obj is not None and not self._queue_obj.channel.is_closed

    @property
    def unacknowledged(self) -> int:
        return len(self._acks) if self._acks is not None and not self._acks.closed else 0


def subscribe(broker: Broker, subscription: Subscription, prefetch: int, accept: Accept) -> BatchSubscriber:
    """Register a subscriber for a queue that exists already (see streams.topology)."""
    config = broker.config
    queue = RabbitQueue(subscription.queue, declare=False)
    exchange = RabbitExchange(subscription.exchange, type=ExchangeType.TOPIC, declare=False)
    calls: CallsCollection[Any] = CallsCollection()
    subscriber = BatchSubscriber(
        config=RabbitSubscriberConfig(
            no_reply=True,
            consume_args=None,
            channel=Channel(prefetch_count=prefetch),
            queue=queue,
            exchange=exchange,
            _ack_policy=AckPolicy.MANUAL,
            _outer_config=config,  # type: ignore[arg-type]
        ),
        specification=RabbitSubscriberSpecification(
            _outer_config=config,  # type: ignore[arg-type]
            specification_config=RabbitSubscriberSpecificationConfig(
                title_=subscription.queue,
                description_=subscription.handler.__doc__,
                include_in_schema=True,
                queue=queue,
                exchange=exchange,
            ),
            calls=calls,
        ),
        calls=calls,
    )
    subscriber.accept = accept
    subscriber.taps = broker.taps
    subscriber._tags = deque()
    Registrator.subscriber(broker, subscriber)
    subscriber.add_call(parser_=None, decoder_=None, dependencies_=())
    subscriber(_documented(subscription))
    return subscriber


def _documented(subscription: Subscription) -> Callable[..., Awaitable[None]]:
    """What FastStream documents and never calls: a function that takes the family's events."""

    async def handle(event: Any) -> None:
        raise AssertionError("deliveries go to BatchSubscriber.consume")

    handle.__name__ = subscription.queue
    handle.__doc__ = subscription.handler.__doc__
    handle.__annotations__["event"] = Union[tuple(subscription.types.values())]  # noqa: UP007
    return handle


def _acknowledger(channel: Any) -> Callable[[int], Awaitable[None]]:
    async def acknowledge(tag: int) -> None:
        try:
            await channel.basic_ack(tag, multiple=True, wait=False)
        except (aiormq.exceptions.AMQPError, OSError, RuntimeError) as error:
            # The channel is gone; the broker delivers these again and de-duplication knows them.
            log.info("acknowledgement lost with its channel", error=type(error).__name__)

    return acknowledge


def _others(msg: IncomingMessage) -> dict[str, Any]:
    """As `frames.others_of`."""
    found = {
        "content_encoding": msg.content_encoding,
        "correlation_id": msg.correlation_id,
        "reply_to": msg.reply_to,
        "priority": msg.priority,
        "expiration": msg.expiration,
        "user_id": msg.user_id,
    }
    return {name: value for name, value in found.items() if value is not None}


def _delivery_count(msg: IncomingMessage) -> int:
    count = msg.headers.get("x-delivery-count", 0) if msg.redelivered else 0
    return count if isinstance(count, int) else 0
