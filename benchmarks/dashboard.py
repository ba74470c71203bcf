"""How soon the dashboard's list of runs shows something, with very many runs in the store.

Usage: python -m benchmarks.dashboard [--runs 100000] [--times 7] [--folder DIR]

Figures are what the browser itself has timed, in milliseconds from the start of the navigation: its first contentful
paint, and when the first row of the table was there, as a script in the page saw it. Cold: a browser with an empty
cache that has never been here, each time a new one. Warm: the same browser again. The server is a process of its own
over SQLite. The first visit of all, for which the server imports what draws pages, is told apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import BrowserContext  # noqa: E402

from helpers.browser import browser, server  # noqa: E402
from helpers.many_runs import insert_runs  # noqa: E402

#: Sees the first row in the frame in which it is drawn.
_WATCH = """
const look = () => {
  if (document.querySelector("main tbody tr a")) window.firstRow = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
_READ = """() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
  answer: performance.getEntriesByType("navigation")[0].responseEnd,
  row: window.firstRow,
})"""
_FILTERS = {
    "all": "",
    "failed": "?status=failed",
    "one workflow": "?workflow=many.refund",
    "text, far back": "?text=run-000007",
    "attribute": "?attribute=region%3Deu",
    "last hour, queued": "?within=1h&status=queued",
}


def visit(context: BrowserContext, url: str) -> dict[str, float]:
    """One navigation, as the browser has timed it."""
    page = context.new_page()
    page.add_init_script(_WATCH)
    page.goto(url, wait_until="commit")
    page.wait_for_function("window.firstRow && performance.getEntriesByName('first-contentful-paint').length")
    found: dict[str, float] = page.evaluate(_READ)
    page.close()
    return found


def told(name: str, figures: Sequence[dict[str, float]]) -> None:
    """A line of the medians and the worst."""
    line = f"{name:28}"
    for key in ("answer", "paint", "row"):
        values = [each[key] for each in figures]
        line += f"{statistics.median(values):9.0f} {max(values):7.0f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="for the database; with one in it already, that is used")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as made:
        folder = options.folder or Path(made)
        database = folder / f"runs-{options.runs}.db"
        if not database.exists():
            insert_runs(database, options.runs)
        measure(folder, database, options.times)


def measure(folder: Path, database: Path, times: int) -> None:
    print(f"{'ms: median, worst':28}{'page answered':>17}{'first paint':>17}{'first row':>17}")
    with server(folder, "serve", database=f"sqlite:///{database}") as site, browser() as chrome:
        url = f"{site.url}/runs"
        started: Any = chrome.context.browser
        told("the server's first page", [visit(chrome.context, url)])
        cold = []
        for _ in range(times):
            context = started.new_context()
            cold.append(visit(context, url))
            context.close()
        told("cold", cold)
        for name, query in _FILTERS.items():
            told(f"warm: {name}", [visit(chrome.context, url + query) for _ in range(times)])


if __name__ == "__main__":
    main()
