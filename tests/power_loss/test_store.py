"""Power is cut while the store works: what it acknowledged is on the disk, whole, and nothing is damaged.

The real store runs on a disk that records; then images of what may be on that disk are looked at. So that this
proves anything, the same harness must find losses where the store syncs less than it does.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from script import play
from syncing import syncing_less

from perdure.storage.sqlite import writer
from perdure.testing.deeds import Broken, Deeds, Lost, check, look, moment
from perdure.testing.disk import Failed
from perdure.testing.powerloss import Directories, Image, Platter, images, put

SOAK = os.environ.get("PERDURE_SOAK") == "1"
SEEDS = range(50) if SOAK else range(2)
IMAGES = 1000 if SOAK else 120  # of each seed, in each model of directories: 100,000 in a night's run


def recorded(folder: Path, seed: int, rounds: int = 60, **options: Any) -> Deeds:
    """The script, played on a disk in a new folder."""
    folder.mkdir()
    return asyncio.run(play(folder, seed, rounds, **options))


def tried(
    deeds: Deeds, place: Path, count: int, seed: int, directories: Directories
) -> Iterator[Lost | Broken | int]:
    """What is wrong with each image, or how many deeds it holds. The image is in `place` until the next one."""
    yield from judged(deeds, place, seed, images(deeds.disk.log, count, seed, directories))


def judged(
    deeds: Deeds, place: Path, seed: int, drawn: Iterable[tuple[int, Image]], *, unmade: bool = False
) -> Iterator[Lost | Broken | int]:
    """See `tried`.

    Args:
        unmade: a file that was being made, and of which nobody has been told, may be unreadable.
    """
    for operations, image in drawn:
        put(image, place)
        now = moment(deeds.disk.log, operations)
        try:
            yield check(look(place), deeds.all, now)
        except (Lost, Broken) as wrong:
            if unmade and isinstance(wrong, Broken) and not now.opened:
                yield 0
                continue
            wrong.add_note(f"power cut after operation {operations}, seed {seed}; the image: {place}")
            yield wrong


def keeps_everything(deeds: Deeds, place: Path, count: int, seed: int, directories: Directories) -> set[int]:
    """Try images, none of which may be wrong. Returns the numbers of deeds that they hold."""
    held: set[int] = set()
    for found in tried(deeds, place, count, seed, directories):
        if isinstance(found, Exception):
            raise found
        held.add(found)
    return held


@pytest.mark.parametrize("directories", Directories)
def test_nothing_acknowledged_is_lost(
    directories: Directories, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    for seed in SEEDS:
        deeds = recorded(tmp_path / f"disk-{seed}", seed)
        held = keeps_everything(deeds, tmp_path / "image", IMAGES, seed, directories)
        assert len(held) > 20, "these images are of too few moments"
    total = len(SEEDS) * IMAGES
    took = (time.monotonic() - began) / total * 1000
    record_property("figure", f"{total} images, 0 lost, 0 damaged; {took:.1f} ms an image")
    record_property("tally", ["images of losses of power", total])


def recorded_with_failing_syncs(folder: Path, seed: int, *, alone: bool) -> Deeds:
    """Some syncs fail, and the system forgets what it failed to write. No job is told; the store sees to it."""
    chance = random.Random(seed)

    def plan() -> Iterator[bool]:
        while True:
            if chance.random() < 0.1:
                yield from [True] * chance.randint(1, 3)
                yield from [False] * 8  # so that the store doesn't give up
            yield False

    verdict = plan()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_REPAIR_PAUSES", (0.0,) * 12)
        return recorded(folder, seed, fails=lambda: next(verdict), alone=alone)


def after_failures(deeds: Deeds, count: int, seed: int) -> Iterator[tuple[int, Image]]:
    """About so many images of moments soon after a failed sync, when it may matter what the store makes of it."""
    log = deeds.disk.log
    failed = [number for number, operation in enumerate(log) if isinstance(operation, Failed)]
    moments = {number + later for number in failed for later in range(80)}
    chance = random.Random(seed)
    platter = Platter(Directories.JOURNALLED, chance)
    for number, operation in enumerate(log):
        platter.apply(operation)
        if number in moments and chance.random() < count / len(moments):
            yield number + 1, platter.image(chance)


@pytest.mark.parametrize("alone", [False, True], ids=["with-reader", "alone"])
def test_nothing_is_lost_after_syncs_that_failed(
    alone: bool, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    failed = total = 0
    for seed in SEEDS:
        deeds = recorded_with_failing_syncs(tmp_path / f"disk-{seed}", seed, alone=alone)
        failed += sum(isinstance(operation, Failed) for operation in deeds.disk.log)
        assert len(moment(deeds.disk.log, len(deeds.disk.log)).done) == len(deeds.all)
        drawn = after_failures(deeds, IMAGES, seed)
        for found in judged(deeds, tmp_path / "image", seed, drawn, unmade=True):
            if isinstance(found, Exception):
                raise found
            total += 1
    assert failed > 10
    record_property("figure", f"{failed} failed syncs, {total} images, 0 lost, 0 damaged")
    record_property("tally", ["images of losses of power after failed syncs", total])


@pytest.mark.parametrize("directories", Directories)
def test_a_new_database_stays(directories: Directories, tmp_path: Path) -> None:
    """From before the file exists to its first runs; many images of each moment."""
    deeds = recorded(tmp_path / "disk", 1, rounds=1)
    for seed in range(1, IMAGES // 60):
        keeps_everything(deeds, tmp_path / "image", 60, seed, directories)


# -- the harness bites ----------------------------------------------------------------------------------


def verdicts(deeds: Deeds, place: Path, count: int, directories: Directories) -> Counter[str]:
    return Counter(type(found).__name__ for found in tried(deeds, place, count, 1, directories))


def test_normal_would_lose_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Never more than that: the file isn't damaged."""
    syncing_less(monkeypatch, "FULL", "NORMAL", then=1)
    found = verdicts(recorded(tmp_path / "disk", 1), tmp_path / "image", 100, Directories.JOURNALLED)
    assert found["Lost"] > 10
    assert found["Broken"] == 0
    record_property("figure", f"of 100 images, {found['Lost']} have lost something")


def test_off_would_damage_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    syncing_less(monkeypatch, "FULL", "OFF", then=0)
    found = verdicts(recorded(tmp_path / "disk", 1), tmp_path / "image", 100, Directories.JOURNALLED)
    assert found["Broken"] > 10
    record_property(
        "figure", f"of 100 images, {found['Broken']} are damaged, {found['Lost']} have lost something"
    )


def test_a_new_file_without_extra_could_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """The journal of its making comes back, and takes back what was made."""
    syncing_less(monkeypatch, "EXTRA", "FULL", then=2)
    deeds = recorded(tmp_path / "disk", 1)
    found = verdicts(deeds, tmp_path / "image", 100, Directories.STRICT)
    assert found["Lost"] > 3  # it is a short moment among all the writes that make a file
    record_property("figure", f"of 100 images, {found['Lost']} have lost everything")
    assert verdicts(deeds, tmp_path / "image", 50, Directories.JOURNALLED) == {"int": 50}
