"""Power is cut while an engine drives runs: another one finishes them from what is left on the disk.

No step whose outcome was acknowledged begins again, what mustn't happen twice happens once, and each result that was
seen is the result for good. Power may be cut a second time, in the middle of that recovery.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from orders import Book, recorded, work
from syncing import syncing_less

from perdure import events
from perdure.codec.events import decode_event
from perdure.testing.deeds import DATABASE, Deeds, Found, Lost, Moment, check, look, moment
from perdure.testing.powerloss import Directories, Image, images, put

SOAK = os.environ.get("PERDURE_SOAK") == "1"
RECORDINGS = 10 if SOAK else 1
IMAGES = 1000 if SOAK else 150
RECOVERED = 40 if SOAK else 8  #: of these images
AGAIN = 20 if SOAK else 10  #: images of each recovery


def agrees(
    deeds: Deeds, operations: int, image: Image, place: Path, before: Found | None = None
) -> tuple[Moment, Found]:
    """Put the image there and check it; the results that were seen are still those."""
    put(image, place)
    now = moment(deeds.disk.log, operations)
    found = look(place)
    check(found, deeds.all, now, inbox=False, before=before)
    for run, answer in now.answers.items():
        (key,) = (key for key, id in found.ids.items() if id == run)
        last = decode_event(found.events[key, found.runs[run]])
        assert isinstance(last, events.RunCompleted), f"{run} has ended with {answer}, and now {last}"
    return now, found


def finishes(place: Path, image: Image, now: Moment, done: set[str]) -> tuple[Deeds, Book]:
    """Let another engine finish what an image holds; `done` mustn't be done again."""
    put(image, place)
    (place / f"{DATABASE}-shm").write_bytes(b"left by the system that lost its power" * 1000)
    deeds, book = asyncio.run(work(place, now))
    again = done.intersection(book.bodies)
    assert not again, f"recorded steps ran again: {again}"
    assert set(book.effects.values()) == {1}, f"not once: {book.effects}"
    return deeds, book


def test_normal_would_lose_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness bites here, too."""
    syncing_less(monkeypatch, "FULL", "NORMAL", then=1)
    (folder := tmp_path / "disk").mkdir()
    deeds, _ = asyncio.run(work(folder, Moment()))
    with pytest.raises(Lost):
        for operations, image in images(deeds.disk.log, 100, 1):
            agrees(deeds, operations, image, tmp_path / "image")


def test_runs_survive_losses_of_power(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    tried = recovered = redone = 0
    for seed in range(RECORDINGS):
        chance = random.Random(seed)
        directories = list(Directories)[seed % 2]
        (folder := tmp_path / f"disk-{seed}").mkdir()
        deeds, _ = asyncio.run(work(folder, Moment()))
        chosen = set(chance.sample(range(IMAGES), RECOVERED))
        place = tmp_path / "image"
        for number, (operations, image) in enumerate(images(deeds.disk.log, IMAGES, seed, directories)):
            now, found = agrees(deeds, operations, image, place)
            tried += 1
            if number not in chosen:
                continue
            done = recorded(deeds, now, found)
            later, book = finishes(place, image, now, done)
            redone += len(set(book.bodies) & set(now.bodies))
            # Power is cut again, while that one recovers; after one of these cuts a third engine finishes.
            carried_on = chance.randrange(AGAIN)
            for other, (second, more) in enumerate(images(later.disk.log, AGAIN, number, directories)):
                then, still = agrees(later, second, more, place, before=found)
                if other == carried_on:
                    finishes(place, more, then.and_before(now), done | recorded(later, then, still))
            tried += AGAIN
            recovered += 2
    assert redone > 0, "no cut was between a body and its record"
    record_property("tally", ["images of losses of power under an engine", tried])
    record_property(
        "figure",
        f"{tried} images, 0 lost, 0 damaged; {recovered} recovered: {redone} bodies again whose outcome was lost, "
        f"0 that were recorded",
    )
