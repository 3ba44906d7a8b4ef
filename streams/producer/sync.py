"""The producer for programs without an event loop: the same one, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from schemas.envelope import Data, Event
from streams.producer.client import Producer
from streams.producer.events import Attributes
from streams.producer.stats import Statistics

T = TypeVar("T")


class SyncProducer:
    """`Producer` for scripts and threads; takes the same arguments, raises the same errors.

        with SyncProducer(url, source="nightly-import") as producer:
            producer.send("task.created", {"task_id": uuid7(), "kind": "research"})

    May be called from several threads. For speed use `enqueue` and, at the end, `flush`: every `send`
    waits for its confirm.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._producer = Producer(url, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._run(self._producer.__aexit__(kind, error, traceback))
        finally:
            self._stop()

    def start(self) -> None:
        """Connect; see `Producer.start`."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="streams-producer", daemon=True)
        self._thread.start()
        try:
            self._run(self._producer.start())
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """See `Producer.close`."""
        try:
            self._run(self._producer.close())
        finally:
            self._stop()

    def make(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> Event:
        """See `Producer.make`."""
        return self._producer.make(what, data, **attributes)

    def send(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> Event:
        """Send one event and wait for its confirm; see `Producer.send`."""
        return self._run(self._producer.send(what, data, **attributes))

    def enqueue(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> None:
        """Hand over one event, waiting for room if need be; `flush` and `close` raise if it fails."""
        self._run(self._producer.enqueue(what, data, **attributes))

    def flush(self) -> None:
        """Wait until all is confirmed; see `Producer.flush`."""
        self._run(self._producer.flush())

    @property
    def statistics(self) -> Statistics:
        return self._producer.statistics

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        if loop is None or loop.is_closed():
            coroutine.close()
            raise RuntimeError("the producer is not started, or is closed: use `with`, or `start`")
        # The caller's context, and so its span, goes with it.
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
