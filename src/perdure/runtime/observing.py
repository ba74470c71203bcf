"""How others hear of what happens here: telemetry, which the engine knows nothing of.

    Telemetry            one for each purpose: traces, metrics
        .watch(engine) -> Observer       one for each engine that is entered
            .recorded(run, events, append), ...

What is observed is what is *durable*: an observer is told of an event after it was recorded, once, by the process that
has recorded it, and before the run's code hears of it. A replay tells nothing but that there was one. So whoever counts
or reports never does it twice, and never what didn't happen; what was recorded by a process that died before it has
told is in the history, which `recalled` shows.

Observers are called in the event loop, between turns, and have to be quick: whatever waits belongs into a task or a
thread of theirs. What they raise is logged, and harms no run. Engines that nobody observes pay a comparison with None
for each append and each attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from perdure.core.events import Event, RunStarted
from perdure.core.status import Status
from perdure.core.tracing import TraceContext
from perdure.storage.protocol import Store

if TYPE_CHECKING:
    from perdure.core.machine import Machine
    from perdure.runtime.attempt import Attempt
    from perdure.runtime.definitions import WorkflowDefinition
    from perdure.storage.records import Append, RunRow

logger = logging.getLogger("perdure.telemetry")


class Driven(Protocol):
    """A run that is driven here, as observers may look at it: reading only.

    Attributes:
        run: its key in the store, one for each generation of an id; names it in tables of the observer's own.
        id: its id.
        queue: where it runs.
        seq: how many events it has, those of which an observer is just told included.
        epoch: counts its drivers.
        machine: with `started`, its first event, and the operations that are open.
        definition: of its workflow. Those of errands (steps that other runs have sent) are ErrandDefinitions.
    """

    run: int
    id: str
    queue: str
    seq: int
    epoch: int
    machine: Machine
    definition: WorkflowDefinition


class Watched(msgspec.Struct, frozen=True):
    """The engine that is observed.

    Attributes:
        store: to be read.
        loop: that everything happens in.
        clock: wall-clock seconds.
        name: the worker's, as in listings.
        version: of the worker's code, "" if it has none.
        queues: that it serves.
        drives: it has a worker; False: it is a client.
        load: how many runs are in memory, and how many attempts of steps execute, right now.
    """

    store: Store
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    name: str
    version: str
    queues: Sequence[str]
    drives: bool
    load: Callable[[], tuple[int, int]]


#: A run by its id and its first event.
Origin: TypeAlias = tuple[str, RunStarted]


class Observer:
    """Hears what happens in one engine. Its methods do nothing; override those that you need."""

    def hears(self, method: str) -> bool:
        """Whether it makes a difference to call a method of this name."""
        return getattr(type(self), method) is not getattr(Observer, method)

    async def close(self) -> None:
        """The engine has been closed: tell what isn't told yet."""

    # -- runs ------------------------------------------------------------------------------------------

    def carried(self, origin: Origin | None = None, *, link: bool = False) -> TraceContext | None:
        """Where a run comes from that is about to be made here, for its first event.

        Args:
            origin: the run whose code starts it, or that goes on as it; None: the caller's context.
            link: the run goes on as it, or is made from it: it isn't a part of it.
        """
        return None

    def sends(self, run: int, step: str, attempt: int) -> str | None:
        """An attempt of a run's step is about to be sent to another queue: what its worker is to know, as text."""
        return None

    def born(self, run: Driven, started: RunStarted) -> None:
        """A new run begins here. Its first event is durable."""

    def recalled(self, run: Driven, history: Sequence[bytes], *, recovered: bool) -> None:
        """A run is in memory again: its history was replayed, and is here to be read.

        Args:
            history: its encoded events, see `perdure.codec.events.decode_event`.
            recovered: whoever drove it before has died, perhaps before it had told what it recorded.
        """

    def recorded(self, run: Driven, events: Sequence[Event], append: Append) -> None:
        """These events are durable; the last of them has the number `run.seq`.

        Args:
            append: in which they were written; its `effects` tell what else was, such as what a step has cost (Book).
        """

    def let_go(self, run: Driven) -> None:
        """A run isn't driven here any more: it has ended, left memory, is blocked, or somebody else has it."""

    def replayed(self, run: Driven, events: int, seconds: float) -> None:
        """A run's history was fed to its code, as far as that came."""

    def rested(self, run: Driven, status: Status, code: str | None) -> None:
        """A run was handed back: it waits outside memory, is paused or blocked. That is durable; `let_go` follows.

        Args:
            code: why it is blocked, see BlockCode.
        """

    def ended_outside(self, id: str) -> None:
        """This process has ended a run, without driving it: it was terminated. Its last event is durable."""

    # -- the engine ------------------------------------------------------------------------------------

    def committed(self, appends: int, events: int, seconds: float) -> None:
        """The journal has made a batch durable, in so many seconds."""

    def claimed(self, rows: Sequence[RunRow]) -> None:
        """The worker has taken these runs from the store."""

    def refused(self, operation: str, error: BaseException | None) -> None:
        """The store couldn't do something: "append" or "claim". It is tried again."""

    # -- steps -----------------------------------------------------------------------------------------

    def begins(self, attempt: Attempt) -> None:
        """An attempt is about to begin. Called in the contextvars context in which its body will execute.

        Where its body executes in a process of its own, it finds `current_trace` there as this sets it.
        """


class Telemetry(Protocol):
    """Makes observers of engines."""

    def watch(self, engine: Watched) -> Observer | None:
        """An engine was opened: what shall observe it, if anything."""
        ...


class _Several(Observer):
    """Tells several observers, and keeps what they raise from everybody else. One is told in the same way."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._of_records = [observer for observer in observers if observer.hears("recorded")]
        self._troubled: set[tuple[type, str]] = set()

    def hears(self, method: str) -> bool:
        return any(observer.hears(method) for observer in self._observers)

    async def close(self) -> None:
        for observer in self._observers:
            try:
                await observer.close()
            except Exception as error:  # noqa: BLE001 - no trouble of theirs may become a run's
                self._trouble(observer, "close", error)

    def _each(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of each; the first answer that isn't None counts."""
        answer = None
        for observer in self._observers:
            try:
                said = getattr(observer, method)(*args, **options)
            except Exception as error:  # noqa: BLE001 - no trouble of theirs may become a run's
                self._trouble(observer, method, error)
            else:
                answer = said if answer is None else answer
        return answer

    def _trouble(self, observer: Observer, method: str, error: Exception) -> None:
        """Said once for each kind: what fails with one event may well fail with each."""
        known = (type(observer), f"{method} {type(error).__name__}")
        if known not in self._troubled:
            self._troubled.add(known)
            logger.error("%s.%s() failed; runs go on", type(observer).__name__, method, exc_info=error)

    def carried(self, origin: Origin | None = None, *, link: bool = False) -> TraceContext | None:
        found: TraceContext | None = self._each("carried", origin, link=link)
        return found

    def sends(self, run: int, step: str, attempt: int) -> str | None:
        text: str | None = self._each("sends", run, step, attempt)
        return text

    def born(self, run: Driven, started: RunStarted) -> None:
        self._each("born", run, started)

    def recalled(self, run: Driven, history: Sequence[bytes], *, recovered: bool) -> None:
        self._each("recalled", run, history, recovered=recovered)

    def recorded(self, run: Driven, events: Sequence[Event], append: Append) -> None:
        for observer in self._of_records:  # written out, since this is called with each append
            try:
                observer.recorded(run, events, append)
            except Exception as error:  # noqa: BLE001 - no trouble of theirs may become a run's
                self._trouble(observer, "recorded", error)

    def let_go(self, run: Driven) -> None:
        self._each("let_go", run)

    def ended_outside(self, id: str) -> None:
        self._each("ended_outside", id)

    def replayed(self, run: Driven, events: int, seconds: float) -> None:
        self._each("replayed", run, events, seconds)

    def rested(self, run: Driven, status: Status, code: str | None) -> None:
        self._each("rested", run, status, code)

    def committed(self, appends: int, events: int, seconds: float) -> None:
        self._each("committed", appends, events, seconds)

    def claimed(self, rows: Sequence[RunRow]) -> None:
        self._each("claimed", rows)

    def refused(self, operation: str, error: BaseException | None) -> None:
        self._each("refused", operation, error)

    def begins(self, attempt: Attempt) -> None:
        self._each("begins", attempt)


_installed: list[Telemetry] = []


def install(telemetry: Telemetry) -> None:
    """Let it watch each engine that is entered from now on in this process."""
    if telemetry not in _installed:
        _installed.append(telemetry)


def uninstall(telemetry: Telemetry) -> None:
    """Let it watch no further engines."""
    if telemetry in _installed:
        _installed.remove(telemetry)


def installed() -> Sequence[Telemetry]:
    """What watches each engine that is entered."""
    return tuple(_installed)


def observer_of(watched: Watched, own: Iterable[Telemetry]) -> Observer | None:
    """Who observes an engine: what is installed, and what it was given itself. None if that is nobody."""
    kinds = [*_installed, *(telemetry for telemetry in own if telemetry not in _installed)]
    found: list[Observer] = []
    for telemetry in kinds:
        observer = telemetry.watch(watched)
        if observer is not None:
            found.append(observer)
    return _Several(found) if found else None
