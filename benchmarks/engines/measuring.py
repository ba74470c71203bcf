"""What all the engines' modules share. Standard library only: it is imported in environments without Perdure."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

Figures = dict[str, float]
Sizes = dict[str, int]
#: A work: where its data is to be, how large it is.
Work = Callable[[str, Sizes], Figures]

#: So many steps are averaged to tell what one costs at some place of a long history.
WINDOW = 100


def main(*works: Work) -> None:
    """Carry out the work that the command line asks for, and print its figures."""
    name, place, sizes = sys.argv[1:]
    work = {one.__name__: one for one in works}[name]
    print(json.dumps(work(place, json.loads(sizes))))


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Gives a function that tells the seconds since; at the end of the block it stops."""
    began = time.perf_counter()
    ended: float | None = None
    yield lambda: (time.perf_counter() if ended is None else ended) - began
    ended = time.perf_counter()


def rate(number: int, seconds: float, figure: str = "steps_per_s") -> Figures:
    return {figure: number / seconds}


def shares(pairs: Sequence[tuple[float, float]]) -> Figures:
    """Medians of bare commits a second and of steps a second measured beside them, and of their ratios."""
    return {
        "commits_per_s": statistics.median(limit for limit, _ in pairs),
        "steps_per_s": statistics.median(ours for _, ours in pairs),
        "share": statistics.median(ours / limit for limit, ours in pairs),
    }


def spread(seconds: Sequence[float]) -> Figures:
    """Median and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
    }


async def laps(times: int, lap: Callable[[int], Awaitable[object]], warm: int = 10) -> Figures:
    """How long a lap takes, one after the other; those that warm up have negative numbers and don't count."""
    found = []
    for number in range(-warm, times):
        began = time.perf_counter()
        await lap(number)
        if number >= 0:
            found.append(time.perf_counter() - began)
    return spread(found)


def growth(stamps: Sequence[float], places: Sequence[int]) -> Figures:
    """What a step costs at some places of a history, from the times at which each of its steps was done."""
    return {
        f"at_{place}_us": (stamps[place - 1] - stamps[place - WINDOW]) / (WINDOW - 1) * 1e6
        for place in places
        if place <= len(stamps)
    }


def resident_bytes() -> int:
    """Memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def die() -> NoReturn:
    """As by a power cut, for all that this process can tell."""
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
