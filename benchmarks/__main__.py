"""Runs the measurements in alternating rounds and prints the table.

Usage: python -m benchmarks [--rounds N] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import apsw

Rounds = dict[str, list[dict[str, float]]]

#: Measured in every round, raw limits and ours in turn; the others once.
EACH_ROUND = ("raw_commits", "sequential", "raw_batches", "concurrent", "replay", "memory")
ONCE = ("fsyncs", "sleepers")


def measure(name: str, folder: Path) -> dict[str, float]:
    """One measurement in a process and a folder of its own."""
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.workloads", name, str(place)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        return figures
    finally:
        shutil.rmtree(place)


def run(rounds: int, folder: Path) -> Rounds:
    results: Rounds = {}
    for number in range(rounds):
        for name in EACH_ROUND:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            results.setdefault(name, []).append(measure(name, folder))
    for name in ONCE:
        print(f"once: {name}", file=sys.stderr)
        results[name] = [measure(name, folder)]
    return results


def _median(results: Rounds, name: str, figure: str) -> float:
    return statistics.median(round_[figure] for round_ in results[name])


def _ratio(results: Rounds, ours: str, raw: str, our_figure: str, raw_figure: str) -> float:
    pairs = zip(results[ours], results[raw], strict=True)
    return statistics.median(mine[our_figure] / limit[raw_figure] for mine, limit in pairs)


def table(results: Rounds) -> str:
    """The figures as a Markdown table."""
    share = _ratio(results, "sequential", "raw_commits", "steps_per_s", "commits_per_s")
    sleepers = results["sleepers"][0]
    rows = [
        ("raw limit: single-row commits", f"{_median(results, 'raw_commits', 'commits_per_s'):,.0f} /s", ""),
        (
            "one run of 2,000 sequential steps",
            f"{_median(results, 'sequential', 'steps_per_s'):,.0f} steps/s",
            f"{share:.0%} of the raw commits (target 65 %)",
        ),
        (
            "raw limit: rows, 1,000 in a commit",
            f"{_median(results, 'raw_batches', 'rows_per_s'):,.0f} /s",
            "",
        ),
        (
            "1,000 runs x 10 steps at once",
            f"{_median(results, 'concurrent', 'steps_per_s'):,.0f} steps/s",
            "target 20,000",
        ),
        ("replay", f"{_median(results, 'replay', 'events_per_s'):,.0f} events/s", "target 120,000"),
        (
            "a suspended run in memory",
            f"{_median(results, 'memory', 'bytes_per_run'):,.0f} bytes",
            "target 6,000",
        ),
        (
            "100,000 sleeping runs, evicted",
            f"{sleepers['rss_bytes_per_run']:,.0f} bytes of memory each",
            "target 0",
        ),
        ("", f"{sleepers['disk_bytes_per_run']:,.0f} bytes of disk each", ""),
        ("fsyncs per commit", f"{results['fsyncs'][0]['fsyncs_per_commit']:.3f}", "target 1"),
    ]
    lines = ["| work | measured | |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    head = (
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, "
        f"medians of {len(results['sequential'])} rounds\n"
    )
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="where the databases are: the disk to measure"
    )
    parser.add_argument("--json", type=Path, help="write every single figure there, too")
    options = parser.parse_args()
    results = run(options.rounds, options.folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
