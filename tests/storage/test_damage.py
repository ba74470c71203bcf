"""Histories that are changed behind the store's back: none is taken for what was recorded.

PERDURE_SOAK=1 makes 20,000 of them, and each time it is seen that what the store reads did change.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.damage import BEYOND, KINDS, Kind, Raw, Stored, raw_access
from helpers.postgres import lent_database
from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.errors import StoreError
from perdure.runtime.checking import Check, Finding
from perdure.storage.chain import links
from perdure.storage.effects import KeepCheckpoint
from perdure.storage.records import Append, Appended, History, RunRow
from perdure.storage.urls import auditor_for, store_for
from perdure.testing.conformance.bench import Bench

SOAK = os.environ.get("PERDURE_SOAK") == "1"
MUTATIONS = 10_000 if SOAK else 250
FILES = 1_000 if SOAK else 25
RUNS = 24


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        with lent_database() as lent:
            yield lent


def an_event(rng: random.Random) -> bytes:
    """Small, as most of them are, or not."""
    text = "".join(rng.choice("abc 0123456789") for _ in range(rng.choice([0, 3, 20, 20, 100, 400, 5_000])))
    return encode_event(ev.StepCompleted(rng.random(), "app.fetch#1", 1, 0.5, f'"{text}"'.encode()))


async def fill(bench: Bench, rng: random.Random) -> list[RunRow]:
    """Runs with histories of all lengths; some are replayed from a checkpoint on."""
    worker = await bench.worker()
    rows: list[RunRow] = []
    for number in range(RUNS):
        row = await bench.make(f"run-{number}", owner=worker, first_event=an_event(rng))
        for _ in range(rng.choice([0, 1, 2, 5, 12])):
            events = [an_event(rng) for _ in range(rng.choice([1, 1, 1, 3]))]
            effects: tuple[KeepCheckpoint, ...] = ()
            if number % 8 == 7 and rng.random() < 0.5:
                events.append(encode_event(ev.Checkpointed(rng.random(), "checkpoint:1", b"{}")))
                effects = (KeepCheckpoint(),)
            row = await bench.put(row, *events, effects=effects)
        rows.append(row)
    return rows


async def one(bench: Bench, row: RunRow) -> History:
    (history,) = await bench.store.load([row.run])
    return history


class Ruin:
    """Damages runs of a database one at a time, judges what is seen of it, and makes it good again."""

    def __init__(self, url: str, bench: Bench, rows: list[RunRow], seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = bench
        self.rows = rows
        self.raw: Raw = raw_access(url)
        self.auditor = auditor_for(url)
        self.sound: dict[int, Stored] = {}
        self.events: dict[int, list[bytes]] = {}
        self.seen: Counter[str] = Counter()
        self.silent: list[tuple[str, str]] = []

    async def look(self) -> None:
        """How everything is before."""
        for row in self.rows:
            history = await one(self.bench, row)
            assert history.damage is None
            self.events[row.run], self.sound[row.run] = list(history.events), self.raw.read(row.run)
        assert not list(Check(self.auditor).everything())

    def close(self) -> None:
        self.raw.close()
        self.auditor.close()

    async def damage(self, kind: Kind) -> str | None:
        """What becomes of one mutation: "blocked", "check", "silent"; None where it doesn't apply."""
        first, second = self.rng.sample(self.rows, 2)
        before = self.sound[first.run], self.sound[second.run]
        after = kind(self.rng, *before)
        if after is None or after == before:
            return None
        changed = [
            (row, old, new)
            for row, old, new in zip((first, second), before, after, strict=True)
            if old != new
        ]
        for row, old, new in changed:
            self.raw.write(row.run, old, new)
        try:
            verdicts = [await self._judged(kind, row, new) for row, _, new in changed]
        finally:
            for row, old, new in changed:
                self.raw.write(row.run, new, old)
        return min(verdicts, key=("silent", "check", "blocked").index)

    async def _judged(self, kind: Kind, row: RunRow, new: Stored) -> str:
        assert self.raw.read(row.run) == new != self.sound[row.run], "the tables did change"
        history = await one(self.bench, row)
        found = self.findings(row)
        if history.damage is not None:
            assert found, (kind.__name__, history.damage)
            self.seen[history.damage.kind.value] += 1
            return "blocked"
        if list(history.events) == self.events[row.run] and found:
            return "check"  # what a replay reads is what was recorded
        print(kind.__name__, found, self.sound[row.run], new, history, sep="\n  ")
        return "silent"

    def findings(self, row: RunRow) -> list[Finding]:
        standing = self.auditor.standing(row.run)
        assert standing is not None
        return Check(self.auditor)._run(standing)


async def ruined(url: str, seed: int, work: Callable[[Ruin], Any]) -> None:
    bench = Bench(lambda: store_for(url))
    await bench.open()
    try:
        ruin = Ruin(url, bench, await fill(bench, random.Random(seed)), seed)
        try:
            await ruin.look()
            await work(ruin)
            await ruin.look()
        finally:
            ruin.close()
    finally:
        await bench.close()


def test_no_damage_is_silent(url: str, record_property: Callable[[str, object], None]) -> None:
    """Whatever is changed: a replay is refused; or it reads what was recorded, and a check tells."""
    counts: dict[str, Counter[str]] = {kind.__name__: Counter() for kind in KINDS}

    async def work(ruin: Ruin) -> None:
        done = 0
        while done < MUTATIONS:
            kind = KINDS[done % len(KINDS)]
            verdict = await ruin.damage(kind)
            if verdict is not None:
                counts[kind.__name__][verdict] += 1
                done += 1
        assert len(ruin.seen) >= 4, ruin.seen

    asyncio.run(ruined(url, 20, work))
    told = ", ".join(f"{name} {sum(found.values())}" for name, found in counts.items())
    sums = Counter[str]()
    for found in counts.values():
        sums.update(found)
    record_property(
        "figure",
        f"{sums.total()} mutations ({told}): {sums['blocked']} refused, {sums['check']} harmless and found by check, "
        f"{sums['silent']} silent",
    )
    assert sums["silent"] == 0, counts
    assert all(found.total() >= MUTATIONS // len(KINDS) for found in counts.values()), "each kind did happen"
    assert counts["another_place"]["check"] == 0, "though a replay would read the same"
    assert counts["link_alone"]["check"] > 0
    assert sums["blocked"] > 0.85 * MUTATIONS


@pytest.mark.parametrize("kind", BEYOND, ids=lambda kind: kind.__name__)
def test_what_cannot_be_found_is_what_we_say(url: str, kind: Kind) -> None:
    """A consistent older copy of a run, and what somebody has computed anew: the documentation names them."""

    async def work(ruin: Ruin) -> None:
        verdicts = [await ruin.damage(kind) for _ in range(20)]
        assert "silent" in verdicts
        if kind.__name__ == "forged_throughout":
            assert "blocked" not in verdicts or any(row.id.endswith(("7", "15", "23")) for row in ruin.rows)

    asyncio.run(ruined(url, 21, work))


# -- files ----------------------------------------------------------------------------------------------


async def _all(path: Path, rows: list[RunRow]) -> dict[int, History | None] | None:
    """The histories in a file, as far as the database gives them; None where it doesn't open."""
    store = store_for(f"sqlite:///{path}")
    try:
        await store.open()
    except StoreError:
        return None
    found: dict[int, History | None] = {}
    try:
        for row in rows:
            try:
                (found[row.run],) = await store.load([row.run])
            except StoreError:
                found[row.run] = None
    finally:
        await store.close()
    return found


def test_flipped_bytes_of_a_file_are_not_taken_for_history(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Anywhere in the file: nobody gets another history than the one that was recorded."""
    rng, counts = random.Random(22), Counter[str]()
    path = tmp_path / "whole.db"
    rows: list[RunRow] = []

    async def prepare() -> dict[int, History | None] | None:
        bench = Bench(lambda: store_for(f"sqlite:///{path}"))
        await bench.open()
        rows.extend(await fill(bench, rng))
        await bench.close()
        return await _all(path, rows)

    sound = asyncio.run(prepare())
    assert sound is not None
    content = path.read_bytes()
    copy = tmp_path / "copy.db"
    while counts.total() < FILES:
        at = rng.randrange(len(content))
        if content[at : at + 64] == bytes(64):  # where nothing is
            continue
        flipped = bytearray(content)
        for place in range(at, min(len(content), at + rng.choice([1, 1, 16, 512]))):
            flipped[place] ^= rng.randrange(1, 256)
        copy.write_bytes(flipped)
        for suffix in ("-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
        found = asyncio.run(_all(copy, rows))
        counts[_told(found, sound)] += 1
    shutil.rmtree(tmp_path, ignore_errors=True)
    told = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    record_property("figure", f"{counts.total()} damaged files: {told}, {counts['silent']} silent")
    assert counts["silent"] == 0, counts
    assert counts["refused"] > counts.total() // 10, "many hit a history"


def _told(found: dict[int, History | None] | None, sound: dict[int, History | None]) -> str:
    if found is None:
        return "not opened"
    verdict = "not concerned"
    for run, history in found.items():
        before = sound[run]
        assert before is not None
        if history is None:
            verdict = "not read"
        elif history.damage is not None:
            verdict = "refused"
        elif history.events and list(history.events) != list(before.events):
            return "silent"
    return verdict


# -- while somebody writes ------------------------------------------------------------------------------


def test_a_check_beside_writers_finds_nothing(url: str) -> None:
    """Histories that grow while they are looked at are sound."""

    async def work() -> tuple[int, int]:
        bench = Bench(lambda: store_for(url))
        await bench.open()
        auditor = auditor_for(url)
        rows = await fill(bench, random.Random(23))
        going, looks = True, 0

        async def write() -> int:
            written = 0
            while going:
                for place, row in enumerate(rows):
                    event = encode_event(ev.StepCompleted(written, "app.fetch#1", 1, 0.5, b"1"))
                    change = Append(
                        *(row.run, row.seq, row.epoch, bench.next_attempt(), [event], 1.0),
                        links=links(row.chain, [event]),
                    )
                    (answer,) = await bench.store.append([change])
                    assert isinstance(answer, Appended)
                    assert change.chain is not None
                    rows[place] = _moved_on(row, answer.seq, change.chain)
                    written += 1
            return written

        writing = asyncio.create_task(write())
        try:
            for _ in range(5):
                check = Check(auditor)
                found = await asyncio.to_thread(_looked, check)
                assert found == []
                looks += check.counts.runs
        finally:
            going = False
            written = await writing
            auditor.close()
            await bench.close()
        return looks, written

    looks, written = asyncio.run(work())
    assert looks == 5 * RUNS
    assert written > 0


def _looked(check: Check) -> list[Finding]:
    return list(check.everything(files=False))


def _moved_on(row: RunRow, seq: int, chain: int) -> RunRow:
    return msgspec.structs.replace(row, seq=seq, chain=chain)


def test_a_row_that_cannot_be_read_blocks_its_run_alone(tmp_path: Path) -> None:
    """A worker's other runs are claimed; a check says whose row it is."""
    url = f"sqlite:///{tmp_path / 'test.db'}"

    async def main() -> None:
        bench = Bench(lambda: store_for(url))
        await bench.open()
        rows = [await bench.make(id) for id in ("a", "b", "c")]
        raw = raw_access(url)
        raw.execute("UPDATE runs SET key = CAST(x'ff6b' AS TEXT) WHERE id = 'b'")
        worker = await bench.worker()
        assert [row.id for row in await bench.claim(worker)] == ["a", "c"]
        assert await bench.claim(worker) == []
        ((status, code, reason, owner),) = raw.execute(
            "SELECT status, block_code, reason, owner FROM runs WHERE run = ?", rows[1].run
        )
        assert (status, code, owner) == ("blocked", "history", None)
        assert "can't be read" in reason
        raw.execute("UPDATE runs SET id = CAST(x'ff62' AS TEXT) WHERE id = 'b'")
        raw.close()
        auditor = auditor_for(url)
        found = [
            (one.kind, one.run) for one in Check(auditor).everything(files=False) if one.kind != "undecodable"
        ]
        assert found == [("content", "\\xffb")]
        auditor.close()
        await bench.close()

    asyncio.run(main())
