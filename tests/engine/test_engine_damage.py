"""Histories that are damaged behind the engine's back: their runs are blocked before anything is done, no others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from engine_kit import Place, exists, reaches, run, until, works

import perdure
from helpers.damage import Event, raw_access
from perdure import Handle, step, workflow
from perdure.errors import DamagedHistoryError, RunFailed
from perdure.storage.chain import links, origin

BODIES: Counter[str] = Counter()

Change = Callable[[list[Event]], list[Event]]


@step
async def counts(label: str, number: int) -> int:
    BODIES[label] += 1
    return number


@workflow
async def waits(label: str) -> list[int]:
    """Two steps, a message, and another step: events 1 to 3, or 4 with the note that it waits."""
    found = [await counts(label, 7), await counts(label, 8)]
    found.append(await perdure.receive("go", int))
    return [*found, await counts(f"{label} later", 9)]


@workflow
async def quickly(label: str) -> int:
    return await counts(label, 7)


@step(retry=perdure.Retry(max_attempts=1))
async def breaks_once(label: str) -> int:
    BODIES[label] += 1
    if BODIES[label] == 1:
        raise ValueError("not yet")
    return 5


@workflow
async def fails(label: str) -> int:
    return await counts(f"{label} first", 1) + await breaks_once(label)


class Tables:
    """The rows of a place, past all stores."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def change(
        self, id: str, change: Change, *, seq: int | None = None, consistently: bool = False
    ) -> list[Event]:
        """Make something else of a run's events, or of what its row says of their number.

        Args:
            consistently: all that is said of them fits to it.

        Returns:
            The events as they were.
        """
        if self.place.url == "memory:":
            found = self.place.shared.find_id(id)
            assert found is not None
            before = [
                (number, *event)
                for number, event in enumerate(zip(found.links, found.events, strict=True), 1)
            ]
            after = change(list(before))
            found.links, found.events = [one[1] for one in after], [one[2] for one in after]
            found.chain = found.links[-1] if consistently else found.chain
            return before
        raw = raw_access(self.place.url)
        try:
            (key,) = raw.execute(f"SELECT run FROM {raw.prefix}runs WHERE id = {raw.mark}", id)[0]
            old = raw.read(key)
            new = old.with_events(change(list(old.events)))
            new = replace(new, seq=new.seq if seq is None else seq)
            new = replace(new, chain=new.events[-1][1] if consistently else new.chain)
            raw.write(key, old, new)
            return list(old.events)
        finally:
            raw.close()


def another_result(events: list[Event]) -> list[Event]:
    """The first step returned 6: an event as good as any, but not the one that was recorded."""
    (at,) = [place for place, (_, _, data) in enumerate(events) if b"counts#1" in data]
    seq, link, data = events[at]
    assert b"\xc4\x017" in data
    events[at] = seq, link, data.replace(b"\xc4\x017", b"\xc4\x016")
    return events


async def parked(place: Place, *ids: str) -> None:
    """Runs that wait for a message, in no engine's memory."""
    async with place.engine() as engine:
        for id in ids:
            await engine.start(waits(id), id=id)
        for id in ids:
            await reaches(engine.get(id), "waiting")


async def blocked(handle: Handle[Any]) -> str:
    """Why a run is blocked, once it is."""
    await reaches(handle, "blocked")
    info = await handle.info()
    assert info.reason is not None
    return info.reason


DAMAGE: dict[str, tuple[Change, str]] = {
    "changed": (another_result, "event 2 isn't what was recorded"),
    "one missing": (lambda events: [events[0], *events[2:]], "event 2 is missing"),
    "cut off": (lambda events: events[:2], "missing"),
    "swapped": (
        lambda events: [
            events[0],
            (2, *events[2][1:]),
            (3, *events[1][1:]),
            *events[3:],
        ],
        "event 2 isn't what was recorded",
    ),
    "twice": (
        lambda events: [*events, (events[-1][0] + 1, *events[-1][1:])],
        "behind the newest one",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_nothing_is_done_by_a_damaged_history(place: Place, what: str) -> None:
    """It is blocked before anything new; whoever asks hears where the damage is; the others go on."""
    change, told = DAMAGE[what]
    if place.url == "memory:" and what in ("one missing", "cut off", "twice"):
        pytest.skip("there the number of events is what their list holds")

    async def main() -> None:
        BODIES.clear()
        await parked(place, "bad", "good")
        Tables(place).change("bad", change)
        async with place.engine() as engine:
            for id in ("bad", "good"):
                await engine.get(id).send("go", 1)
            assert await engine.get("good").result() == [7, 8, 1, 9]
            handle = engine.get("bad")
            reason = await blocked(handle)
            assert "the history of run 'bad' is damaged" in reason
            assert told in reason
            (cause,) = (await handle.why()).causes
            assert (cause.kind, cause.what) == ("history", reason)
            assert "perdure check" in cause.todo
            with pytest.raises(DamagedHistoryError):
                await handle.query("anything")
        assert BODIES == {"bad": 2, "good": 2, "good later": 1}

    run(main)


def test_a_mended_history_goes_on(place: Place) -> None:
    """The rows are brought back, and the run is resumed; before that, resuming only finds the damage again."""

    async def main() -> None:
        BODIES.clear()
        await parked(place, "r")
        before = Tables(place).change("r", another_result)
        async with place.engine() as engine:
            handle = engine.get("r")
            await handle.send("go", 1)
            await blocked(handle)
            (seen,) = await engine._store.get(["r"])
            assert seen is not None
            await handle.resume()
            await until(partial(_blocked_again, engine, seen.epoch))
            Tables(place).change("r", lambda _: before)
            await handle.resume()
            assert await handle.result() == [7, 8, 1, 9]
        assert BODIES == {"r": 2, "r later": 1}

    run(main)


async def _blocked_again(engine: perdure.Engine, epoch: int) -> bool:
    """Whether a run was taken over since, and is blocked."""
    (row,) = await engine._store.get(["r"])
    assert row is not None
    return row.epoch > epoch and row.status == "blocked"


def test_a_fork_goes_on_from_before_the_damage(place: Place) -> None:
    """What is sound is taken over, what isn't is done again; asking for more is refused."""

    async def main() -> None:
        BODIES.clear()
        await parked(place, "r")
        Tables(place).change(
            "r", lambda events: [(s, k, d.replace(b"\xc4\x018", b"\xc4\x010")) for s, k, d in events]
        )
        async with place.engine() as engine:
            handle = engine.get("r")
            for at in (None, 4):
                with pytest.raises(DamagedHistoryError, match="event 3 isn't what was recorded") as caught:
                    await handle.fork(at)
                assert (caught.value.run_id, caught.value.seq) == ("r", 3)
            fork = await handle.fork(3, id="f")
            await fork.send("go", 2)
            assert await fork.result() == [7, 8, 2, 9]
            await handle.terminate()
            await reaches(handle, "terminated")
        assert BODIES == {"r": 3, "r later": 1}, "one step is taken over, the other done again"

    run(main)


def test_a_result_that_is_not_what_was_recorded_is_not_told(place: Place) -> None:
    """Neither to whoever asks for it, nor to whoever waits; and others hear of their own runs."""

    async def main() -> None:
        async with place.engine() as engine:
            for id in ("bad", "good"):
                assert await engine.run(quickly(id), id=id) == 7
        Tables(place).change(
            "bad", lambda events: [*events[:-1], (*events[-1][:2], events[-1][2].replace(b"7", b"6"))]
        )
        async with place.engine(worker=False) as client:
            assert await client.get("good").result() == 7
            with pytest.raises(DamagedHistoryError, match="isn't what was recorded"):
                await client.get("bad").result()

    run(main)


def test_a_retry_takes_nothing_over_from_a_damaged_history(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        async with place.engine() as engine:
            with pytest.raises(RunFailed):
                await engine.run(fails("r"), id="r")
        Tables(place).change(
            "r",
            lambda events: [
                (s, k, d.replace(b"\xc4\x011", b"\xc4\x012") if b"counts#1" in d else d) for s, k, d in events
            ],
        )
        async with place.engine() as engine:
            with pytest.raises(DamagedHistoryError):
                await engine.get("r").retry()
            assert await engine.get("r").status() == "failed"
        assert BODIES["r"] == 1

    run(main)


def test_an_event_in_the_way_blocks_its_run_alone(place: Place) -> None:
    """A run that is in memory is to be appended to, and there is something already; others are in the same batch."""
    if place.url == "memory:":
        pytest.skip("there the next place is always free")

    async def main() -> None:
        BODIES.clear()
        async with place.engine() as engine:
            for id in ("bad", "good", "also good"):
                await engine.start(waits(id), id=id)
            for id in ("bad", "good", "also good"):
                await until(partial(_noted, engine.get(id)))
            Tables(place).change("bad", lambda events: [*events, (events[-1][0] + 1, *events[-1][1:])])
            await asyncio.gather(*(engine.get(id).send("go", 1) for id in ("bad", "good", "also good")))
            assert await engine.get("good").result() == [7, 8, 1, 9]
            assert await engine.get("also good").result() == [7, 8, 1, 9]
            assert "behind" in await blocked(engine.get("bad"))
            await works(engine)
            await engine.get("bad").terminate()
            await reaches(engine.get("bad"), "terminated")
        assert BODIES["bad later"] == 0

    run(main)


async def _noted(handle: Handle[Any]) -> bool:
    """Whether a run has written down that it waits; then nothing of it is on its way."""
    if not await exists(handle):
        return False
    return any([isinstance(event, perdure.events.MessageAwaited) async for event in handle.history()])


def test_a_row_that_went_back_blocks_the_run_that_is_driven(place: Place) -> None:
    """As when a table was restored under a worker: it neither writes over that nor lets the run hang."""
    if place.url == "memory:":
        pytest.skip("there a row doesn't count events")

    async def main() -> None:
        BODIES.clear()
        async with place.engine() as engine:
            await engine.start(waits("r"), id="r")
            await until(lambda: _noted(engine.get("r")))
            Tables(place).change("r", lambda events: events, seq=2)
            await engine.get("r").send("go", 1)
            assert "its row says that there are 2 events, and 4 were recorded" in await blocked(
                engine.get("r")
            )
        assert BODIES == {"r": 2}

    run(main)


def test_an_event_that_nobody_can_read_blocks_its_run_alone(place: Place) -> None:
    """It is what was recorded, by a newer version say: its checksum is right."""

    async def main() -> None:
        BODIES.clear()
        await parked(place, "bad", "good")

        def newer(events: list[Event]) -> list[Event]:
            data = [events[0][2], b"\x63" + events[1][2][1:], *(event[2] for event in events[2:])]
            chained = links(origin("bad", 1), data)
            return [
                (number, link, one) for number, (link, one) in enumerate(zip(chained, data, strict=True), 1)
            ]

        Tables(place).change("bad", newer, consistently=True)
        async with place.engine() as engine:
            for id in ("bad", "good"):
                await engine.get(id).send("go", 1)
            assert await engine.get("good").result() == [7, 8, 1, 9]
            assert "format 99" in await blocked(engine.get("bad"))
        assert BODIES["bad later"] == 0

    run(main)
