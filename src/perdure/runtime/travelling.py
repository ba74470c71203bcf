"""Time travel from an engine: runs are replayed in processes of their own, so that nothing of it harms the engine.

Replaying is running the user's code, at full speed, over histories of any length. In the engine's own process that
would hold up everything else; in a thread as well, since threads of one interpreter take turns, and the loop of a run
has to hold off the garbage collection of the whole process. What spins in C can't be interrupted at all; a process
can be killed.

A process is a fresh interpreter that has imported the workflow's module. It is kept while somebody looks, with the
runs that were looked at last, so the next step costs a message there and back. When the files of the code that it has
shown were changed since, it is replaced by a new one.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import Any, Literal

from perdure.core.standing import Standing
from perdure.errors import NoCodeError, TravelError
from perdure.runtime.definitions import is_entity, workflow_named
from perdure.runtime.processes import StepProcess
from perdure.runtime.processtalk import HEAD
from perdure.runtime.settings import Settings
from perdure.runtime.travel import Journey
from perdure.runtime.travelprocess import Answer, Failed, Found, Look, NoCode, Seen, decode_answer
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow

SIZE = 2  #: processes
RUNS = 4  #: that one keeps
IDLE = 300.0  #: seconds after which one that nobody needs is ended
PAGE = 1000  #: events fetched at once
LOOK_WITHIN = 20.0  #: seconds that an answer may take
IMPORT_WITHIN = 60.0  #: and the first one of a process

_REAP_EVERY = 0.05
_END_WITHIN = 1.0


class Travelling:
    """Shows the past of runs. Costs nothing before it is first asked.

    Args:
        within: seconds that an answer may take.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, settings: Settings, within: float = LOOK_WITHIN
    ) -> None:
        self._store = store
        self._loop = loop
        self._max_payload = settings.max_payload
        self.within = within
        self._guides: list[_Guide] = []
        self._asked: set[asyncio.Task[Answer]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def standing(self, row: RunRow, seq: int) -> Standing:
        """Where a run stood after one of its events.

        Raises:
            NoCodeError: the code of its workflow isn't here.
            TravelError: its past can't be shown.
        """
        answer = await self._ask(row, seq, None, "next")
        assert isinstance(answer, Seen)
        return answer.standing

    async def change(
        self,
        row: RunRow,
        seq: int,
        variable: tuple[int, int, str],
        direction: Literal["next", "previous"],
    ) -> int | None:
        """By which event a variable (a task's id, which of its frames, its name) became another one."""
        answer = await self._ask(row, seq, variable, direction)
        assert isinstance(answer, Found)
        return answer.seq

    async def close(self) -> None:
        """End the processes."""
        if self._timer is not None:
            self._timer.cancel()
        for asked in list(self._asked):
            asked.cancel()
        guides, self._guides = self._guides, []
        for guide in guides:
            guide.kill()
        deadline = self._loop.time() + _END_WITHIN
        while any(guide.lives() for guide in guides) and self._loop.time() < deadline:  # noqa: ASYNC110 - polled
            await asyncio.sleep(_REAP_EVERY / 5)

    # -- asking -------------------------------------------------------------------------------------

    async def _ask(
        self,
        row: RunRow,
        seq: int,
        variable: tuple[int, int, str] | None,
        direction: Literal["next", "previous"],
    ) -> Answer:
        asked = self._loop.create_task(self._answer(row, seq, variable, direction))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        # Who doesn't wait any more leaves the process in the middle of an answer: it is taken, and kept.
        return await asyncio.shield(asked)

    async def _answer(
        self,
        row: RunRow,
        seq: int,
        variable: tuple[int, int, str] | None,
        direction: Literal["next", "previous"],
    ) -> Answer:
        module = self._module(row)
        guide = self._guide_for(row)
        async with guide.lock:
            guide.refresh()
            look = await self._look(guide, row, module, seq, variable, direction)
            try:
                async with asyncio.timeout(
                    self.within if guide.met(module) else max(IMPORT_WITHIN, self.within)
                ):
                    answer = await guide.ask(look)
            except TimeoutError:
                guide.kill()
                msg = (
                    f"the past of run {row.id!r} wasn't there within {self.within:g} s: its code, or a module that it "
                    "imports, takes too long. Nothing else was held up; the process that replayed it was ended"
                )
                raise TravelError(msg) from None
            except (EOFError, ConnectionError, OSError):
                guide.kill()
                msg = f"the process that replayed run {row.id!r} has died: its code may have ended it. Try again"
                raise TravelError(msg) from None
            guide.used = self._loop.time()
            self._tidy_later()
            if isinstance(answer, NoCode):
                raise NoCodeError(_unfound(row, module, answer.why))
            if isinstance(answer, Failed):
                guide.known.pop(row.run, None)
                raise TravelError(f"the engine itself failed on replaying run {row.id!r}:\n{answer.why}")
            guide.learn(row.run, look.known + len(look.events), module)
            if isinstance(answer, Seen):
                guide.files.update(answer.standing.files)
            return answer

    async def _look(
        self, guide: _Guide, row: RunRow, module: str, seq: int, variable: Any, direction: Any
    ) -> Look:
        known = guide.known.get(row.run, 0)
        events: list[bytes] = []
        damaged = None
        if known == 0 or known < row.seq:
            (history,) = await self._store.load([row.run])
            if is_entity(row.workflow):  # what is loaded of one begins at its last checkpoint
                events = await self._all_events(row.run, known)
            else:
                events = list(history.events[known:])
            if history.damage is not None:
                damaged = (history.damage.seq or 1, history.damage.text)
        return Look(
            journey=Journey(
                row.run, row.id, row.generation, row.workflow, row.started_at or row.created_at, damaged
            ),
            module=module,
            known=known,
            events=events,
            max_payload=self._max_payload,
            seq=seq,
            variable=variable,
            direction=direction,
            forget=guide.surplus(row.run),
        )

    async def _all_events(self, run: int, after: int) -> list[bytes]:
        events: list[bytes] = []
        while page := await self._store.events(run, after=after + len(events), limit=PAGE):
            events.extend(data for _, data in page)
        return events

    def _module(self, row: RunRow) -> str:
        definition = workflow_named(row.workflow)
        if definition is None:
            msg = (
                f"the past of run {row.id!r} is rebuilt by its code, and this process has none for {row.workflow!r}. "
                "Name the module that holds it: perdure serve --module MODULE, perdure dev MODULE, or perdure show "
                "... --module MODULE; in a program of your own, import it"
            )
            raise NoCodeError(msg)
        return definition.function.__module__

    def _guide_for(self, row: RunRow) -> _Guide:
        """The process that knows the run; else one that is free; else a new one."""
        for guide in self._guides:
            if row.run in guide.known:
                return guide
        free = [guide for guide in self._guides if not guide.lock.locked()]
        if not free and len(self._guides) < SIZE:
            self._guides.append(_Guide(self._loop.time()))
            return self._guides[-1]
        return min(free or self._guides, key=lambda guide: guide.used)

    def _tidy_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE / 2, self._tidy)

    def _tidy(self) -> None:
        self._timer = None
        now = self._loop.time()
        for guide in list(self._guides):
            if not guide.lock.locked() and now - guide.used > IDLE:
                guide.kill()
            if not guide.lives() and not guide.lock.locked():
                self._guides.remove(guide)
        if self._guides:
            self._tidy_later()


class _Guide:
    """A process, and what it knows.

    Attributes:
        known: the runs that it keeps, the one looked at last at the end, and how many events it has of each.
        files: those whose code it has shown, and when they were changed.
        lock: held by who talks with it.
    """

    def __init__(self, now: float) -> None:
        self.known: OrderedDict[int, int] = OrderedDict()
        self.files: dict[str, int] = {}
        self.lock = asyncio.Lock()
        self.used = now
        self._modules: set[str] = set()
        self._process: StepProcess | None = None
        self._ending: list[StepProcess] = []

    def refresh(self) -> None:
        """See that the process is there, and has the code as the files have it now."""
        self.lives()
        if self._process is not None and (self._process.ended() is not None or self._outdated()):
            self.kill()
        if self._process is None:
            self._process = StepProcess("travelprocess", silent=True)

    def _outdated(self) -> bool:
        return any(_changed_at(file) != then for file, then in self.files.items())

    def met(self, module: str) -> bool:
        """Whether it has the code of this module."""
        return module in self._modules

    def learn(self, run: int, events: int, module: str) -> None:
        """What it has been told."""
        self.known[run] = events
        self.known.move_to_end(run)
        self._modules.add(module)

    def surplus(self, run: int) -> tuple[int, ...]:
        """The runs that it is to forget when it learns of this one."""
        others = [key for key in self.known if key != run]
        gone = tuple(others[: max(0, len(others) + 1 - RUNS)])
        for key in gone:
            del self.known[key]
        return gone

    async def ask(self, look: Look) -> Answer:
        """Have it answer."""
        process = self._process
        assert process is not None
        await process.begin(look)
        size = int.from_bytes(await process.read(HEAD), "big")
        answer: Answer = decode_answer(await process.read(size))
        return answer

    def kill(self) -> None:
        """End the process, and forget what it knows."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            self._ending.append(process)
        self.known.clear()
        self.files.clear()
        self._modules.clear()

    def lives(self) -> bool:
        """Whether there is a process, or one that was killed and isn't gone yet."""
        self._ending = [process for process in self._ending if process.ended() is None]
        return self._process is not None or bool(self._ending)


def _changed_at(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return -1


def _unfound(row: RunRow, module: str, why: str) -> str:
    where = "the program's script" if module == "__main__" else f"the module {module}"
    advice = "Define the workflow at the top level of a module that can be imported"
    if module == "__main__":
        advice += ', and put what the script does under `if __name__ == "__main__":`'
    return (
        f"the past of run {row.id!r} is rebuilt by its code, in a process of its own, and that can't find "
        f"{row.workflow!r} in {where}: {why}. {advice}"
    )
