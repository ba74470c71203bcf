"""Where the time of a work goes, layer by layer: reads what py-spy has sampled and prints shares for each thread.

Usage: py-spy record -f raw -t --idle -r 500 -o FILE -- python -m benchmarks.engines.with_perdure WORK FOLDER SIZES
       python -m benchmarks.layers FILE ...

A sample belongs to the innermost function of Perdure on its stack, and so to the layer where that is; what that
function calls of C extensions (SQLite, msgspec) counts as its own, and so does a garbage collection that strikes there.
Samples outside of the event loop's callbacks (imports, opening and closing) are left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*):\d+\)$")
#: Where threads wait for work: files and functions.
WAITS = ("selectors.py", "threading.py", "queue.py")
WAITING = ("Writer._take", "Reader._main")
#: The event loop's turn; what is outside of it on the stack only waits for the loop.
TURN = "BaseEventLoop._run_once"
#: Smaller shares of layers, modules, functions aren't told.
LEAST = (0.01, 0.02, 0.03)


def samples(path: Path) -> Iterator[tuple[str, list[tuple[str, str]], int]]:
    """Thread, frames from the outermost on as function and file, and how often that stack was seen."""
    for line in path.read_text().splitlines():
        stack, _, number = line.rpartition(" ")
        thread, *frames = stack.split(";")
        found = [match.group("function", "file") for frame in frames if (match := FRAME.match(frame))]
        yield thread.rpartition(": ")[2], [(function, file) for function, file in found], int(number)


def place(thread: str, frames: list[tuple[str, str]]) -> tuple[str, str, str] | None:
    """Layer, module and function of a sample; None if it isn't part of the work."""
    functions = [function for function, _ in frames]
    if thread == "MainThread":
        if TURN not in functions:
            return None
        frames = frames[functions.index(TURN) :]
    if "Engine.__init__" in functions or any(file.startswith("<frozen importlib") for _, file in frames):
        return None
    for number, (function, file) in enumerate(reversed(frames)):
        if number == 0 and (function in WAITING or file.endswith(WAITS)):
            return "waiting", "", ""
        if "perdure/" in file:
            module = file.rpartition("perdure/")[2].removesuffix(".py")
            return module.split("/")[0], module, function
        if file.startswith("benchmarks/"):
            return "the workflow and its steps", "", ""
    return "asyncio", "", ""


def main() -> None:
    threads: dict[str, Counter[tuple[str, str, str]]] = {}
    for path in sys.argv[1:]:
        for thread, frames, number in samples(Path(path)):
            if (found := place(thread, frames)) is not None:
                threads.setdefault(thread, Counter())[found] += number
    for thread, places in threads.items():
        waiting = places.pop(("waiting", "", ""), 0)
        busy = places.total()
        if busy > 100:
            print(f"\n{thread}: busy in {busy / (busy + waiting):.0%} of {busy + waiting} samples")
            _print(places, busy, 0, "  ")


def _print(places: Counter[tuple[str, str, str]], busy: int, level: int, indent: str) -> None:
    """Shares of the layers, within them of modules, within them of functions."""
    sums: Counter[str] = Counter()
    for one, number in places.items():
        sums[one[level]] += number
    for name, number in sums.most_common():
        if name and number / busy >= LEAST[level]:
            print(f"{indent}{number / busy:6.1%}  {name}")
            if level < 2:
                within = Counter({one: n for one, n in places.items() if one[level] == name})
                _print(within, busy, level + 1, indent + " " * 8)


if __name__ == "__main__":
    main()
