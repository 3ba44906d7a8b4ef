"""The checker at work: hear, sample, read the database, wait until all is announced, ask the API, judge."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import httpx
import orjson

from schemas.errors import ConfigurationError
from streams.checker.ear import Ear, NotAnnounced
from streams.checker.judge import Answer, Outcome, Verdict, answer_of, judge, matches
from streams.checker.monotonic import Monotonic
from streams.checker.rows import Reading, Rows
from streams.checker.sampling import Sampler
from streams.checker.subjects import Kind, Subject
from streams.checker.tally import Report
from streams.database import tls_for
from streams.refusal import explain

DELAYS: Final = (0.1, 1.0, 10.0)
_TICK: Final = 0.05
_AT_ONCE: Final = 8
_AHEAD: Final = 0.03  # the database is read so long before the API is asked
_MOST_OPEN: Final = 3_000
_WITNESSED: Final = 16
_REMEMBERED: Final = 5_000
_LISTS: Final = (Kind.AGENT_TASKS, Kind.USER_TASKS)
_OF_USERS: Final = (Kind.TASK, *_LISTS)
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is looked at.

    `rate`: subjects sampled per second, each of which costs an answer per delay; `late`: seconds by which an
    answer may be asked for too late and still count; `announce`: seconds to wait until what the database
    shows has been announced; `burst`: see Sampler.
    """

    rate: float = 10.0
    burst: int = 16
    delays: tuple[float, ...] = DELAYS
    late: float = 0.05
    announce: float = 30.0
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    """A subject with its reference; `read_at`: when that had been read; `held`: the API had it before."""

    subject: Subject
    reference: Reading
    read_at: float
    held: bool


class _Refused(Exception):
    """The API gave no answer that could be compared; says which."""


class Checker:
    """Looks at the answers of one or several API processes; see `checking`."""

    def __init__(self, rows: Rows, ear: Ear, sampler: Sampler, apis: Sequence[httpx.AsyncClient],
                 options: Options) -> None:  # fmt: skip
        self._rows = rows
        self._ear = ear
        self._sampler = sampler
        self._apis = apis
        self._options = options
        self._tasks: set[asyncio.Task[None]] = set()
        self._witnessed: OrderedDict[Subject, deque[tuple[float, Reading]]] = OrderedDict()
        self._monotonic = [Monotonic() for _ in apis]
        self._crossing = Monotonic()
        self._found = Report(options.delays)
        self._begun = time.monotonic()
        self._stopped = False
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def sample(self) -> None:
        """Draw and look, until cancelled."""
        credit = 0.0
        while True:
            await asyncio.sleep(_TICK)
            credit = min(credit + self._options.rate * _TICK, max(1.0, self._options.rate))
            if self._stopped:
                return
            if len(self._tasks) >= _MOST_OPEN or credit < 1:
                continue
            drawn = self._sampler.draw(int(credit))
            credit -= len(drawn)
            if drawn:
                self._start(self._look(drawn))

    def stop(self) -> None:
        """Sample nothing more; what has been sampled is followed to its end."""
        self._stopped = True

    async def finish(self, seconds: float) -> None:
        """Let checks that are due within so many seconds end; break off the others."""
        until = time.monotonic() + seconds
        while self._tasks and (left := until - time.monotonic()) > 0:  # what ends may have begun others
            await asyncio.wait(self._tasks, timeout=left)
        self._found.cut_off = len(self._tasks)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def report(self) -> Report:
        """What was found so far."""
        found = self._found
        found.seconds = time.monotonic() - self._begun
        found.heard = self._sampler.heard
        found.losses = self._ear.losses
        found.compared = sum(each.compared for each in self._monotonic)
        found.backwards = sum(each.backwards for each in self._monotonic)
        found.backwards_examples = [line for each in self._monotonic for line in each.examples]
        found.crossed = self._crossing.backwards if len(self._apis) > 1 else 0
        return found

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, subjects: Sequence[Subject]) -> None:
        """Take the reference readings, and have the API asked so long after all they show was announced."""
        held = {subject: self._sampler.is_known(subject) for subject in subjects}
        for subject in subjects:
            self._found.sampled[subject.kind] += 1
        try:
            references = await self._rows.references(subjects)
        except _AWAY:
            self._give_up(subjects, held, "the database does not answer")
            return
        read_at = time.monotonic()
        for subject in subjects:
            if not held[subject]:
                self._start(self._prime(subject))
        try:
            await self._ear.all_announced(references.pending, self._rows.pending, self._options.announce)
        except NotAnnounced as error:
            self._give_up(subjects, held, str(error))
            return
        except _AWAY:
            self._give_up(subjects, held, "the database does not answer")
            return
        announced = time.monotonic()
        for subject in subjects:
            sample = _Sample(subject, references.readings[subject], read_at, held[subject])
            for delay in self._options.delays:
                self._start(self._check(sample, delay, announced + delay))

    def _give_up(self, subjects: Sequence[Subject], held: dict[Subject, bool], why: str) -> None:
        for subject in subjects:
            for delay in self._options.delays:
                verdict = Verdict(Outcome.INCONCLUSIVE, why)
                self._found.add(subject, delay, verdict, held=held[subject])

    async def _prime(self, subject: Subject) -> None:
        """Have caches hold what they do not hold yet: only then the next invalidation means something."""
        for number in range(len(self._apis)):
            try:
                await self._ask(number, subject)
            except _Refused:
                continue

    async def _check(self, sample: _Sample, delay: float, due: float) -> None:
        await _until(due - _AHEAD)
        for number, api in enumerate(self._apis):
            verdict, asked = await self._verdict(number, sample, due)
            late = asked - due > max(self._options.late, delay / 10)
            if late and verdict.outcome is Outcome.CONSISTENT:
                verdict = Verdict(Outcome.INCONCLUSIVE, "asked too late")
            where = f"{api.base_url} " if len(self._apis) > 1 else ""
            self._found.add(sample.subject, delay, verdict, held=sample.held, where=where)

    async def _verdict(self, number: int, sample: _Sample, due: float) -> tuple[Verdict, float]:
        """The verdict, and when the API was asked."""
        subject, asked = sample.subject, time.monotonic()
        try:
            await self._witness(subject)
            await _until(due)
            answer, asked = await self._ask(number, subject)
            since = self._since(sample)
            if any(matches(answer, reading) for reading in (sample.reference, *since)):
                return Verdict(Outcome.CONSISTENT), asked
            last = await self._witness(subject)
            known = set().union(*(reading.parts for reading in (sample.reference, *since, last)))
            strange = [name for name in answer.parts if name not in known] if subject.kind in _LISTS else []
            versions = await self._rows.task_versions(strange) if strange else {}
        except _Refused as error:
            return Verdict(Outcome.INCONCLUSIVE, str(error)), asked
        except _AWAY:
            return Verdict(Outcome.INCONCLUSIVE, "the database does not answer"), asked
        return judge(subject.kind, answer, sample.reference, [*since, last], versions), asked

    async def _witness(self, subject: Subject) -> Reading:
        """Read the subject and remember what it was."""
        begun = time.monotonic()
        reading = await self._rows.now(subject)
        seen = self._witnessed.setdefault(subject, deque(maxlen=_WITNESSED))
        seen.append((begun, reading))
        self._witnessed.move_to_end(subject)
        if len(self._witnessed) > _REMEMBERED:
            self._witnessed.popitem(last=False)
        return reading

    def _since(self, sample: _Sample) -> list[Reading]:
        """Readings that were begun after the sample's reference was taken."""
        seen = self._witnessed.get(sample.subject, ())
        return [reading for begun, reading in seen if begun >= sample.read_at]

    async def _ask(self, number: int, subject: Subject) -> tuple[Answer, float]:
        """What the API says, and when it was asked: a few at once, so as to be no load of its own.

        Raises:
            _Refused: nothing that could be compared.
        """
        async with self._asking:
            asked = time.monotonic()
            try:
                got = await self._apis[number].get(subject.path)
            except httpx.HTTPError:
                raise _Refused("the API does not answer") from None
        answered = time.monotonic()
        if got.status_code == httpx.codes.NOT_FOUND:
            if self._options.token and subject.kind in _OF_USERS:
                raise _Refused("the API shows no such task: the token needs the role operator")
            answer = Answer({})
        elif got.status_code == httpx.codes.OK:
            self._found.caches[got.headers.get("x-cache", "none").lower()] += 1
            try:
                answer = answer_of(subject.kind, orjson.loads(got.content))
            except (KeyError, TypeError, ValueError):
                raise _Refused("the API answers in another form") from None
        else:
            raise _Refused(f"the API answers {got.status_code}")
        self._sampler.note_read(subject, answered)
        self._monotonic[number].saw(subject, answer, asked, answered)
        self._crossing.saw(subject, answer, asked, answered)
        return answer, asked


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


@asynccontextmanager
async def checking(
    amqp: str, database: str, apis: Sequence[str], options: Options | None = None, *, patience: float = 0.0
) -> AsyncIterator[Checker]:
    """Check while the body runs.

    Args:
        apis: base URLs of API processes; each is asked for everything.
        patience: seconds to wait at the end for checks that are not due yet.

    Raises:
        ConfigurationError: a server cannot be reached at the start.
    """
    options = options or Options()
    sampler = Sampler(options.burst)
    headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=api, headers=headers, timeout=5, trust_env=False)
            )
            for api in apis
        ]
        pool = await _pool(database)
        stack.push_async_callback(_close, pool)
        ear = Ear(amqp, sampler.hear)
        await stack.enter_async_context(ear.listening())
        checker = Checker(Rows(pool), ear, sampler, clients, options)
        sampling = asyncio.create_task(checker.sample())
        try:
            yield checker
        except BaseException:
            patience = 0.0
            raise
        finally:
            sampling.cancel()
            await asyncio.wait({sampling})
            await checker.finish(patience)
        if not sampling.cancelled():
            sampling.result()


async def _pool(url: str) -> asyncpg.Pool[asyncpg.Record]:
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=4,
            timeout=5,
            ssl=tls_for(url),
            server_settings={"timezone": "UTC", "application_name": "streams-verify"},
        )
    except _AWAY as error:
        raise ConfigurationError(f"cannot connect to PostgreSQL: {explain(error) or error}") from error


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        await asyncio.wait_for(pool.close(), 5)
    except TimeoutError:
        pool.terminate()
