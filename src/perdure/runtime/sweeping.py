"""Removes runs that have been kept long enough, in small steps, by one worker at a time.

    take the turn                 a row of the store; whoever dies with it loses it after TURN seconds
    finish what was planned       by whoever had the turn before
    sweep remainders              rows of runs that are gone already; then give free room back
    orphans                       what these runs had started
    the next runs that ended      of each: which rule fits, is it needed by somebody
    tend partitions               where there are some, at the end of a pass

Runs with an archive go like this: their plan is noted in the store, with the name of the file; the file is written,
and is durable; they are removed; the plan is forgotten. A crash leaves a plan, and whoever goes on with it writes the
same file unless it is there, and removes what is still as it was planned. So each run is in the database or in a whole
file, whatever is killed when, and in one file only.

Each step is short, and is followed by a pause PAUSES times as long: removing takes a fifth of the store's time at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure.core.retention import Rule, rule_for, soonest
from perdure.errors import ConfigurationError, StoreError, StoreUnavailableError
from perdure.runtime.timers import Timers
from perdure.runtime.watching import Watch
from perdure.storage.archives import archive_at, new_name
from perdure.storage.moving import Package
from perdure.storage.packing import counted
from perdure.storage.protocol import Store
from perdure.storage.retention import EndedRun, Removal

logger = logging.getLogger("perdure.retention")

#: Seconds for which a turn is taken.
TURN = 120.0
#: Seconds between two passes over all runs that have ended.
REST = 60.0
#: How many of them are looked at in one step, and removed in one transaction.
PAGE = 500
AT_ONCE = 50
#: What a transaction removes of remainders at most.
ROWS = 500
BYTES = 1 << 20
#: Bytes of free room that a transaction gives back.
SHRINK = 1 << 18
#: How many events the runs of one file have together, about.
FILE_EVENTS = 20_000
#: A step's pause is so many times as long as it was, and so many seconds at least.
PAUSES = 4.0
PAUSE_MIN = 0.002

_STEP = "step/"


class Plan(msgspec.Struct, frozen=True):
    """Which runs are about to be written to which file, and removed."""

    archive: str
    name: str
    runs: Sequence[tuple[int, int, str]]  #: key, number of events, id


class Tally(msgspec.Struct):
    """What was done, and what was found.

    Attributes:
        runs, rows: that were removed.
        files: that were written.
        fits: runs that a rule says have been kept long enough.
        kept: of these the ones that somebody needs, by why.
        looked: runs that were looked at.
    """

    runs: int = 0
    rows: int = 0
    files: int = 0
    looked: int = 0
    fits: int = 0
    kept: dict[str, int] = {}
    by_workflow: dict[tuple[str, str], int] = {}


_plan = msgspec.json.Decoder(Plan).decode
_rules = msgspec.json.Decoder(list[Rule]).decode
_encode = msgspec.json.Encoder().encode


def rules_in(data: bytes) -> list[Rule]:
    """The rules that somebody has noted."""
    return _rules(data) if data else []


class Sweeper:
    """Removes runs by rules, a step at a time.

    Args:
        holder: names this one among others that remove.
        rules: in the order in which they count; asked at the beginning of each pass.
        dry: only count what would be removed.
        tells: note the rules in the store, for people.
    """

    def __init__(
        self,
        store: Store,
        holder: str,
        rules: Callable[[], Sequence[Rule]],
        clock: Callable[[], float] = time.time,
        *,
        dry: bool = False,
        tells: bool = True,
    ) -> None:
        self._store = store.retention
        self._read = store.moving.read
        self._disk = store.disk
        self._holder = holder
        self._ask_rules = rules
        self._clock = clock
        self._dry = dry
        self._tells = tells
        self._rules: Sequence[Rule] = rules()
        self._after = (0.0, 0)
        self.tally = Tally()

    async def step(self) -> bool | None:
        """Do a little. False: there is nothing more to do for now; None: somebody else does it."""
        now = self._clock()
        if not self._dry:
            rules = _encode(self._rules) if self._rules and self._tells else b""
            turn = await self._store.turn(self._holder, now=now, until=now + TURN, rules=rules)
            if turn is None:
                return None
            if turn.plan is not None:
                await self._carry_out(_plan(turn.plan), resumed=True)
                return True
            swept = await self._store.sweep(rows=ROWS, bytes=BYTES)
            self.tally.rows += swept.rows
            if not swept.done or await self._remove_orphans() or await self._disk.shrink(bytes=SHRINK):
                return True
        if await self._remove_ended(now):
            return True
        if not self._dry:
            await self._disk.tend(now=now)
        self._after = (0.0, 0)
        self._rules = self._ask_rules()
        return False

    async def leave(self) -> None:
        """Let others remove."""
        await self._store.leave(self._holder)

    # -- which ones ---------------------------------------------------------------------------------

    async def _remove_orphans(self) -> bool:
        orphans = await self._store.orphans(limit=PAGE)
        needed = await self._needed([one.run for one in orphans])
        going = [one for one in orphans if one.run.run not in needed]
        before = self.tally.runs
        for archive in dict.fromkeys(one.archive for one in going):
            await self._remove(archive, [one.run for one in going if one.archive == archive])
        return self.tally.runs > before

    async def _remove_ended(self, now: float) -> bool:
        """Look at the next runs that have ended. False: there are no more, and none of these went."""
        first = soonest(self._rules)
        if first is None:
            return False
        page = await self._store.ended(before=now - first, after=self._after, limit=PAGE)
        self.tally.looked += len(page)
        if page:  # before anything that may fail again and again
            self._after = (page[-1].ended_at, page[-1].run)
        going: dict[str, list[EndedRun]] = {}
        for run in page:
            rule = rule_for(self._rules, run.workflow, run.status) if _may_go(run) else None
            if rule is not None and rule.after is not None and run.ended_at < now - rule.after:
                going.setdefault(rule.archive, []).append(run)
        several = [run for runs in going.values() for run in runs]
        self.tally.fits += len(several)
        needed = await self._needed(several)
        for why in needed.values():
            self.tally.kept[why] = self.tally.kept.get(why, 0) + 1
        before = self.tally.runs
        for archive, runs in going.items():
            await self._remove(archive, [run for run in runs if run.run not in needed])
        return len(page) == PAGE or self.tally.runs > before

    async def _needed(self, runs: Sequence[EndedRun]) -> dict[int, str]:
        return await self._store.needed([run.run for run in runs]) if runs else {}

    # -- how they go --------------------------------------------------------------------------------

    async def _remove(self, archive: str, runs: Sequence[EndedRun]) -> None:
        for run in runs:
            kind = run.workflow, run.status
            self.tally.by_workflow[kind] = self.tally.by_workflow.get(kind, 0) + 1
        if self._dry:
            return
        if not archive:
            await self._drop([(run.run, run.seq) for run in runs], "")
            return
        for group in _files(runs):
            at = datetime.fromtimestamp(group[0].ended_at, UTC).strftime("%Y%m%dT%H%M%S")
            plan = Plan(archive, new_name(at), [(run.run, run.seq, run.id) for run in group])
            if not await self._store.note(self._holder, _encode(plan)):
                return
            await self._carry_out(plan)

    async def _carry_out(self, plan: Plan, *, resumed: bool = False) -> None:
        archive = archive_at(plan.archive)
        if not (resumed and await asyncio.to_thread(archive.has, plan.name)):
            plan, found = await self._packages(plan)
            seqs = {id: seq for _, seq, id in plan.runs}
            packages = [
                counted(package)
                for package in found
                if package is not None and package.generations[-1].seq == seqs[package.id]
            ]
            if packages:
                await asyncio.to_thread(archive.write, plan.name, packages)
                self.tally.files += 1
        await self._drop([(run, seq) for run, seq, _ in plan.runs], plan.archive)
        await self._store.note(self._holder, None)

    async def _packages(self, plan: Plan) -> tuple[Plan, Sequence[Package | None]]:
        """The packages of a plan's runs. Runs that can't be read are left out of the plan, and stay."""
        try:
            return plan, await self._read([id for _, _, id in plan.runs])
        except StoreUnavailableError as error:
            failed = error
        found: list[Package | None] = []
        runs: list[tuple[int, int, str]] = []
        for run in plan.runs:
            try:
                found += await self._read([run[2]])
            except StoreUnavailableError as error:
                logger.warning("run %s stays, since it can't be written to its archive: %s", run[2], error)
            else:
                runs.append(run)
        less = Plan(plan.archive, plan.name, runs)
        if not await self._store.note(self._holder, _encode(less) if runs else None) or not runs:
            raise failed
        return less, found

    async def _drop(self, runs: Sequence[tuple[int, int]], archive: str) -> None:
        left = list(runs)
        while left:
            some, left = left[:AT_ONCE], left[AT_ONCE:]
            began = time.monotonic()
            done = await self._store.remove(some, archive=archive, now=self._clock(), rows=ROWS)
            self.tally.runs += done.count(Removal.GONE)
            left += [run for run, became in zip(some, done, strict=True) if became is Removal.PART]
            await pause(began)


def _may_go(run: EndedRun) -> bool:
    """Children go after their parents; errands also when the sender has taken what they told."""
    return run.newest and (run.parent is None or (run.parent == "live" and run.workflow.startswith(_STEP)))


def _files(runs: Sequence[EndedRun]) -> list[list[EndedRun]]:
    """The runs of each file."""
    files: list[list[EndedRun]] = []
    events = FILE_EVENTS
    for run in runs:
        if events >= FILE_EVENTS:
            files.append([])
            events = 0
        files[-1].append(run)
        events += run.seq
    return files


async def pause(began: float) -> None:
    """Leave the store to others for longer than it was used."""
    await asyncio.sleep(max(PAUSE_MIN, (time.monotonic() - began) * PAUSES))


class Retainer(Watch):
    """Removes what the rules of this process say, whenever it is this worker's turn.

    Args:
        name: of the worker.
        rules: of this process, in the order in which they count.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        timers: Timers,
        name: str,
        rules: Callable[[], Sequence[Rule]],
    ) -> None:
        super().__init__(loop, clock, timers)
        self._sweeper = Sweeper(store, name, rules, clock)
        self._any = rules

    def refused(self, error: StoreError) -> None:
        logger.warning("couldn't remove old runs, will try again: %s", error)
        self.look_at(self._clock() + REST)

    async def look(self) -> None:
        """Remove what there is to remove."""
        try:
            await self._go_on()
        except StoreError as error:
            self.refused(error)
        except ConfigurationError as error:  # of an archive that another worker has planned
            logger.error("old runs can't be removed here: %s", error)
            self.look_at(self._clock() + REST)

    async def _go_on(self) -> None:
        if not self._any():
            self.look_at(self._clock() + REST)
            return
        before = self._sweeper.tally.runs
        while True:
            began = time.monotonic()
            more = await self._sweeper.step()
            if not more:
                break
            await pause(began)
        if more is False:
            await self._sweeper.leave()
        gone = self._sweeper.tally.runs - before
        if gone:
            logger.info("%d runs were removed that had been kept long enough", gone)
        self.look_at(self._clock() + REST)


async def sweep_once(sweeper: Sweeper, patience: float = 10.0) -> Any:
    """One whole pass, and everything that remains. None: somebody else was at it all the time."""
    deadline = time.monotonic() + patience
    while True:
        began = time.monotonic()
        more = await sweeper.step()
        if more is False:
            return sweeper.tally
        if more is None:
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.2)
            continue
        deadline = time.monotonic() + patience
        await pause(began)
