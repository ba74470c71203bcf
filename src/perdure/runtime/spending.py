"""What attempts of steps spend: noted while they execute, booked with their outcome.

    an attempt that may spend: an open entry in the ledger -> its body -> entries, the open one is closed
                                                                     '-> an error that tells nothing: it is unknown

The open entry is written with the note that the attempt has begun, before its body runs. That costs no extra commit:
whatever lasts longer than 100 ms, as calls of models do, gets such a note anyway.

What an attempt spends that nobody waits for any more is booked by itself. A crash leaves an open entry, whose driver's
epoch is over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core.usage import Spend, Used, may_have_cost
from perdure.errors import StoreError
from perdure.runtime.attempt import Attempt, Encoded, Recorder, TooLate
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.limits import asked, signature_of
from perdure.runtime.prices import priced
from perdure.runtime.responses import usage_of
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.chance import chance
from perdure.storage.ledger import Book, Entry, EntryState, LedgerStore

logger = logging.getLogger("perdure.ledger")

RETRY_FIRST = 0.05  #: seconds before something is offered to the store again, doubling up to
RETRY_MAX = 2.0

#: Results of these types are no responses.
PLAIN = frozenset({str, int, float, bool, bytes, type(None), list, dict, tuple, set, Encoded})

_lock = threading.Lock()  # few calls are recorded at a time
_spenders: set[str] = set()  # names of the steps that have recorded a call in this process


class Outlay:
    """What one attempt spends. Used from any thread.

    Attributes:
        open: id of its open entry.
        begun: its body may have run.
        held: money is reserved for it in budgets.
    """

    __slots__ = ("_calls", "_late", "_only_responses", "_sources", "begun", "held", "open")

    def __init__(self) -> None:
        self._calls: list[tuple[int, Used]] = []
        self._sources: list[object] = []
        self._only_responses = True
        self._late: Callable[[int, Used], None] | None = None
        self.open: int | None = None
        self.begun = False
        self.held = False

    def spend(self, used: Used, source: object = None) -> None:
        """The attempt has made a call.

        Args:
            source: the response that tells of it.
        """
        id = chance.getrandbits(63)
        with _lock:
            if source is None:
                self._only_responses = False
            else:
                self._sources.append(source)
            late = self._late
            if late is None:
                self._calls.append((id, used))
        if late is not None:
            late(id, used)

    def knows(self, response: object) -> bool:
        """Whether a response was counted already, or may have been: what was told in numbers can't be matched."""
        return not self._only_responses or any(source is response for source in self._sources)

    def close(self, late: Callable[[int, Used], None]) -> list[tuple[int, Used]]:
        """The attempt is over. What still comes goes to `late`."""
        with _lock:
            calls, self._calls, self._sources = self._calls, [], []
            self._late = late
        return calls


class _Payer(msgspec.Struct, frozen=True):
    """Whose calls they are: all that the ledger is told of an attempt."""

    run: Recorder
    step: str
    name: str
    attempt: int


def _payer(attempt: Attempt) -> _Payer:
    info = attempt.info
    return _Payer(attempt.run, info.step_id, info.name, info.attempt)


def outlay_of(info: StepInfo) -> Outlay:
    """The attempt's outlay. Steps that spend nothing never have one."""
    outlay = info.outlay
    if outlay is None:
        with _lock:
            outlay = info.outlay = info.outlay or Outlay()
    assert isinstance(outlay, Outlay)
    return outlay


def may_spend(definition: StepDefinition, options: StepOptions) -> bool:
    """Whether an attempt is to leave an open entry before its body runs."""
    if options.spends is None:
        return definition.returns_response or (bool(_spenders) and definition.name in _spenders)
    return options.spends is not False


def notice(info: StepInfo, value: object) -> None:
    """A body has returned something that may be a response."""
    outlay = info.outlay
    if outlay is not None and outlay.knows(value):
        return
    for used in read(value):
        outlay_of(info).spend(used, value)


def read(response: object) -> list[Used]:
    """The calls that a response tells of, with their prices. What can't be read is told in the log."""
    try:
        return [priced(used) for used in usage_of(response)]
    except Exception:  # a client's next version mustn't make the step fail
        logger.warning("couldn't read the usage of a %s", type(response).__qualname__, exc_info=True)
        return []


class Bookkeeper:
    """Books what the attempts of one engine spend.

    Args:
        clock: wall-clock seconds.
    """

    def __init__(
        self, ledger: LedgerStore, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._loop = loop
        self._clock = clock
        self._late: deque[tuple[int, Book]] = deque()
        self._writing: asyncio.Task[None] | None = None

    def forecast(self, attempt: Attempt) -> None:
        """An attempt is about to begin that may spend: what it may spend goes with its run's next append."""
        outlay = outlay_of(attempt.info)
        outlay.begun = False
        if outlay.open is None:
            outlay.open = chance.getrandbits(63)
        entry = self._entry(_payer(attempt), outlay.open, EntryState.OPEN, at_most(attempt))
        attempt.run.add_effect(Book([entry], run=attempt.run.streams_of))

    def close_attempt(
        self, attempt: Attempt, definition: StepDefinition, value: object, error: BaseException | None
    ) -> None:
        """An attempt is over. What it has spent, if it has, goes with its outcome."""
        if definition.returns_response is not False and error is None and type(value) not in PLAIN:
            notice(attempt.info, value)
        if attempt.info.outlay is not None or attempt.in_thread:
            self._settle(attempt, error)
            if isinstance(error, TooLate):
                attempt.info.outlay = None  # it begins anew

    def _settle(self, attempt: Attempt, error: BaseException | None) -> None:
        outlay = outlay_of(attempt.info)
        payer = _payer(attempt)
        closes, held = outlay.open, outlay.held

        def late(id: int, used: Used) -> None:
            # Of the attempt and its outlay this holds nothing: they hold it, and would be garbage by each other.
            self._loop.call_soon_threadsafe(self._book_late, payer, id, used, closes, held)

        calls = outlay.close(late)
        entries = [self._entry(payer, id, EntryState.SPENT, used) for id, used in calls]
        if entries:
            _spenders.add(attempt.operation.name)
        unsure = outlay.open is not None and outlay.begun and may_have_cost(error)
        book = Book(
            entries,
            closes=None if unsure else outlay.open,
            loses=outlay.open if unsure else None,
            run=attempt.run.streams_of,
            held=outlay.held,
        )
        if not entries and outlay.open is None:
            return
        if attempt.dropped or attempt.abandoned:  # its outcome may not be recorded
            self._book(attempt.run, book)
        else:
            attempt.run.add_effect(book)

    def _entry(self, payer: _Payer, id: int, state: EntryState, used: Used) -> Entry:
        run = payer.run
        return Entry(
            id=id,
            state=state,
            step=payer.step,
            name=payer.name,
            attempt=payer.attempt,
            at=self._clock(),
            used=used,
            epoch=run.epoch,
            errand="" if run.streams_of is None else run.id,
        )

    def _book_late(self, payer: _Payer, id: int, used: Used, closes: int | None, held: bool) -> None:
        """A thread that nobody waits for has made a call; so that isn't unknown any more."""
        entries = [self._entry(payer, id, EntryState.SPENT, used)]
        self._book(payer.run, Book(entries, closes=closes, held=held))

    def give_back(self, attempt: Attempt, id: int) -> None:
        """What was reserved for an attempt isn't needed: it doesn't begin."""
        self._book(attempt.run, Book(closes=id, held=True))

    def _book(self, run: Recorder, book: Book) -> None:
        self._late.append((run.streams_of or run.run, book))
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        pause = RETRY_FIRST
        try:
            while self._late:
                run, book = self._late[0]
                try:
                    await self._ledger.book(run, book)
                    self._late.popleft()
                    pause = RETRY_FIRST
                except StoreError as error:
                    logger.warning("couldn't book what was spent, will try again: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_MAX)
        finally:
            self._writing = None

    async def close(self) -> None:
        """See through what isn't booked yet, unless the store refuses to take it."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=1.0)
        if self._writing is not None:
            self._writing.cancel()


def at_most(attempt: Attempt) -> Used:
    """What an attempt uses at most, as far as that was said."""
    call = attempt.operation.call
    spends: Any = call.options.spends
    if callable(spends):
        try:
            args, kwargs = call.arguments(attempt.operation.input)
            spends = asked(spends, signature_of(call.definition.run), args, kwargs)
        except Exception:  # the body's own errors come from the body
            logger.warning("spends= of step %s raised", attempt.operation.name, exc_info=True)
    if not isinstance(spends, Spend):
        return Used()
    used = priced(spends.used())
    return used if used.input or used.output or used.cost else msgspec.structs.replace(used, cost=None)
