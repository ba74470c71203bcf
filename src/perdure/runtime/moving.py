"""Moving all runs of a database to another one, such that no run ever goes on in both.

    source is marked          no worker claims there any more, no schedule fires
    drivers let go            what executes ends and is recorded; runs that somebody drives are paused for that
    runs are copied           they are held in the target; each copy is read back, and its digest compared
    the switch                one transaction of the source ends all its live runs, if nothing has changed since
    sums go over              of what removed runs had spent
    runs arrive               in the target; then schedules go over

A mover may be killed anywhere. The next one finds the mark, compares what was copied by its digests, copies what is
missing or has changed, and goes on. Before the switch the source has everything and nothing in the target can go on;
after it the target has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import MovingError
from perdure.runtime.liveness import host_identity, process_gone
from perdure.runtime.packages import arriving
from perdure.storage.chance import chance
from perdure.storage.moving import Mark, Stamp, everything
from perdure.storage.protocol import Store
from perdure.storage.reasons import being_moved, moved
from perdure.storage.records import RunFilter

_RUNS_AT_ONCE = 500
_EVENTS_AT_ONCE = 20_000
_NAMES = 5  #: how many ids an error names


class Report(msgspec.Struct):
    """What a move has done, so far as this attempt saw it.

    Attributes:
        resumed: an earlier attempt had begun.
        switched: the runs are in the target now, by this attempt or an earlier one.
        runs, live: those that were copied, or found to be copied.
        copied: of these, the ones that this attempt has copied.
        parts: how many of each kind they have: events, mail, ...
        arrived: runs that this attempt let go in the target.
        schedules: schedules that went over.
        refused: names of schedules that the target has already, in another form; they stay.
        damaged: ids of runs whose histories aren't what was recorded, before as after.
    """

    resumed: bool = False
    switched: bool = False
    runs: int = 0
    live: int = 0
    copied: int = 0
    parts: dict[str, int] = {}
    digest: str = ""
    arrived: int = 0
    schedules: int = 0
    refused: list[str] = []
    damaged: list[str] = []


class Mover:
    """One attempt to move everything from a source to a target; both are open stores.

    Args:
        where: the target's url, for people; see shown_url.
        patience: seconds that drivers in the source get to let their runs go.
        tell: is told how it goes.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        where: str,
        *,
        patience: float = 60.0,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._target = target
        self._where = where
        self._reason = being_moved(where)
        self._patience = patience
        self._tell = tell
        self._clock = clock
        self._copied: dict[str, bytes] = {}
        self._counts: dict[str, tuple[bool, dict[str, int], bytes]] = {}
        self.report = Report()

    async def move(self) -> Report:
        """Do whatever is left to do.

        Raises:
            MovingError: it can't go on; what to do is said. The next attempt goes on where this one stopped.
        """
        mark = await self._source.moving.mark()
        self.report.resumed = mark is not None
        if mark is None:
            await self._check_target()
            await self._copy_keys()
            mark = await self._source.moving.begin(Mark(chance.token_hex(8), self._where))
        self._check_mark(mark)
        if not mark.done:
            await self._copy_and_switch(mark.token)
        self.report.switched = True
        await self._arrive(mark.token)
        return self.report

    async def give_up(self) -> int:
        """Undo a move whose switch hasn't happened; returns how many copies were removed from the target."""
        mark = await self._source.moving.mark()
        if mark is None:
            raise MovingError("No move is under way from this database, so there is none to give up.")
        self._check_mark(mark)
        if mark.done:
            raise MovingError(
                f"The move to {mark.to} can't be given up: the runs go on there. Move them back into a new database."
            )
        await self._rest()
        dropped = await self._target.moving.drop(mark.token)
        while True:
            paused = await self._source.find(RunFilter(statuses=[Status.PAUSED.value], limit=1_000_000))
            ours = [row.id for row in paused if row.reason == self._reason]
            if not ours:
                break
            for id in ours:
                now = self._clock()
                await self._source.pauses.resume(id, encode_event(ev.RunResumed(at=now)), now=now)
        await self._source.moving.give_up(mark.token)
        return dropped

    # -- beginning ----------------------------------------------------------------------------------

    def _check_mark(self, mark: Mark) -> None:
        if mark.to != self._where:
            done = "was moved" if mark.done else "is being moved"
            raise MovingError(
                f"This database {done} to {mark.to}, so it can't be moved to {self._where}, too."
            )

    async def _check_target(self) -> None:
        away = await self._target.moving.mark()
        if away is not None:
            raise MovingError(
                f"The target's own runs were moved to {away.to}: what arrived there would rest. Give a new database."
            )
        there = {stamp.id for stamp in await self._target.moving.stamps()}
        both = [stamp.id for stamp in await self._source.moving.stamps() if stamp.id in there]
        if both:
            raise MovingError(_taken(both))

    async def _copy_keys(self) -> None:
        """What is sealed goes over as it is, so its data keys have to be there. They are wrapped."""
        after = ""
        while page := await self._source.keys.page(after=after, limit=_RUNS_AT_ONCE):
            for row in page:
                if row.wrapped is not None and (await self._target.keys.obtain(row)).id != row.id:
                    raise MovingError(
                        f"The target has keys of its own for the same things ({row.subject!r}): something was "
                        "encrypted there already. Give a new database."
                    )
            after = page[-1].id

    # -- before the switch --------------------------------------------------------------------------

    async def _copy_and_switch(self, token: str) -> None:
        while True:
            stamps = await self._rest()
            schedules = [(row.name, row.version) for row in await self._source.schedules.all()]
            changed = [stamp for stamp in _parents_first(stamps) if self._is_new(stamp)]
            if changed:
                self._tell(f"copying {len(changed)} runs")
            for batch in _batches(changed):
                await self._copy(token, batch)
            now = self._clock()
            event = encode_event(ev.RunTerminated(at=now, reason=moved(self._where)))
            seen = everything(stamps, schedules)
            if await self._source.moving.switch(token, seen, event, now=now):
                break
            mark = await self._source.moving.mark()
            if mark is None or mark.token != token:
                raise MovingError("The move was given up by somebody else meanwhile. Nothing was moved.")
            if mark.done:  # the switch's answer was lost, or another mover was quicker
                break
        self._sum_up()

    async def _rest(self) -> list[Stamp]:
        """Wait until nobody drives a run of the source; stamps of all its runs then."""
        deadline = time.monotonic() + self._patience
        told = False
        while True:
            began = time.monotonic()
            stamps = await self._source.moving.stamps()
            owned = [stamp.id for stamp in stamps if stamp.owned]
            if not owned:
                return stamps
            if not told:
                told = True
                self._tell(f"waiting until {len(owned)} runs that are driven come to rest")
            if began > deadline:
                raise MovingError(
                    f"{len(owned)} runs don't come to rest within {self._patience:g} s ({_some(owned)}): their steps "
                    f"still execute. They are left alone, and nothing was switched. Move again with a longer --wait, "
                    f"stop the workers, or take the attempt back with --give-up."
                )
            await self._bury_the_dead()
            for id in owned:
                now = self._clock()
                event = encode_event(ev.RunPaused(at=now, reason=self._reason))
                await self._source.pauses.pause(id, event, reason=self._reason, now=now)
            await asyncio.sleep(max(0.02, 2 * (time.monotonic() - began)))

    async def _bury_the_dead(self) -> None:
        now, here = self._clock(), host_identity()
        for worker in await self._source.workers():
            if worker.lease_until < now or process_gone(worker, here):
                await self._source.bury(worker.id, worker.lease_until, now=now, max_recoveries=1 << 30)

    def _is_new(self, stamp: Stamp) -> bool:
        return self._copied.get(stamp.id) != stamp.print

    async def _copy(self, token: str, stamps: Sequence[Stamp]) -> None:
        ids = [stamp.id for stamp in stamps]
        wanted = [
            arriving(package, self._reason)
            for package in await self._source.moving.read(ids)
            if package is not None
        ]
        digests = {package.id: package.digest() for package in wanted}
        there = await self._digests(ids)
        missing = [package for package in wanted if there.get(package.id) != digests[package.id]]
        made = await self._target.moving.put(missing, hold=token)
        refused = [package.id for package, done in zip(missing, made, strict=True) if not done]
        if refused:
            raise MovingError(_taken(refused))
        copies = await self._digests([package.id for package in missing])
        wrong = [package.id for package in missing if copies.get(package.id) != digests[package.id]]
        if wrong:
            raise MovingError(
                f"{len(wrong)} runs read back from the target differ from what was written ({_some(wrong)}). Nothing "
                f"was switched. Move again; if it stays so, please report it."
            )
        self.report.copied += len(missing)
        self.report.damaged += [
            package.id for package in missing if package.damage() and package.id not in self.report.damaged
        ]
        for stamp in stamps:
            self._copied[stamp.id] = stamp.print
        for package in wanted:
            self._counts[package.id] = package.live, package.counts(), digests[package.id]

    async def _digests(self, ids: Sequence[str]) -> dict[str, bytes]:
        found = await self._target.moving.read(ids) if ids else []
        return {package.id: package.digest() for package in found if package is not None}

    def _sum_up(self) -> None:
        report = self.report
        report.runs = len(self._counts)
        report.live = sum(live for live, _, _ in self._counts.values())
        for _, counts, _ in self._counts.values():
            for name, count in counts.items():
                report.parts[name] = report.parts.get(name, 0) + count
        report.digest = _digest_of_all(digest for _, _, digest in self._counts.values())

    # -- after the switch ---------------------------------------------------------------------------

    async def _arrive(self, token: str) -> None:
        # Nothing has been removed here since the mark, so however often they go over, they are the same.
        await self._target.ledger.receive(token, await self._source.ledger.totals())
        while arrived := await self._target.moving.arrive(token, now=self._clock(), limit=_RUNS_AT_ONCE):
            self.report.arrived += arrived
        for row in await self._source.schedules.all():
            there = await self._target.schedules.create(row)
            if there is not None and there.data != row.data:
                self.report.refused.append(row.name)
                continue
            await self._source.schedules.delete(row.name)
            self.report.schedules += 1


async def refuse_moved(store: Store) -> None:
    """A worker has nothing to do in a database whose runs were moved away.

    Raises:
        MovingError: they were.
    """
    mark = await store.moving.mark()
    if mark is not None and mark.done:
        raise MovingError(
            f"The runs of this database were moved to {mark.to}. Give that url; here nothing goes on."
        )


def _parents_first(stamps: Sequence[Stamp]) -> Iterator[Stamp]:
    """The stamps, none before those of its parents."""
    known = {stamp.id: stamp for stamp in stamps}
    seen: set[str] = set()
    for first in stamps:
        stack = [first]
        while stack:
            stamp = stack[-1]
            if stamp.id in seen:
                stack.pop()
                continue
            waiting = [known[id] for id in stamp.parents if id in known and id not in seen and id != stamp.id]
            if waiting and len(stack) <= len(stamps):
                stack += waiting
                continue
            seen.add(stamp.id)
            yield stack.pop()


def _batches(stamps: Iterable[Stamp]) -> Iterator[list[Stamp]]:
    batch: list[Stamp] = []
    size = 0
    for stamp in stamps:
        if batch and (len(batch) >= _RUNS_AT_ONCE or size + stamp.size > _EVENTS_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(stamp)
        size += stamp.size
    if batch:
        yield batch


def _digest_of_all(digests: Iterable[bytes]) -> str:
    return everything([], [(digest.hex(), 0) for digest in digests]).hex()


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMES]) + (", ..." if len(ids) > _NAMES else "")


def _taken(ids: Sequence[str]) -> str:
    return (
        f"The target has runs with these ids already: {_some(ids)} ({len(ids)} in all). Runs aren't mixed: move into "
        f"a database without them. Nothing was switched."
    )
