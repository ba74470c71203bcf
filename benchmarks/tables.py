"""The figures as Markdown tables, one for each store."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence

import apsw

#: For each measurement, its figures in each round.
Rounds = dict[str, list[dict[str, float]]]


def _median(results: Rounds, name: str, figure: str) -> float:
    return statistics.median(round_[figure] for round_ in results[name])


def _ratio(results: Rounds, ours: str, raw: str, our_figure: str, raw_figure: str) -> float:
    pairs = zip(results[ours], results[raw], strict=True)
    return statistics.median(mine[our_figure] / limit[raw_figure] for mine, limit in pairs)


def sqlite(results: Rounds) -> str:
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
    return _table(f"SQLite {apsw.sqlite_lib_version()}", len(results["sequential"]), rows)


def postgres(results: Rounds) -> str:
    def median(name: str, figure: str) -> float:
        return _median(results, name, figure)

    rows = [
        ("raw limit: single-row commits", f"{median('sequential', 'commits_per_s'):,.0f} /s", ""),
        (
            "one run's sequential steps",
            f"{median('sequential', 'steps_per_s'):,.0f} steps/s",
            f"{median('sequential', 'share'):.0%} of the raw commits (target 60 %)",
        ),
        (
            "1,000 runs x 10 steps at once",
            f"{median('concurrent', 'steps_per_s'):,.0f} steps/s",
            "target 8,000",
        ),
        ("3,000 runs x 10 steps, one worker", f"{median('two_workers', 'one_steps_per_s'):,.0f} steps/s", ""),
        (
            "the same, two workers",
            f"{median('two_workers', 'two_steps_per_s'):,.0f} steps/s",
            f"{median('two_workers', 'ratio'):.2f} x one (target 1.3)",
        ),
        (
            "message to a run that waits on another worker",
            f"p50 {median('messages', 'p50_ms'):.1f} ms",
            "target 15 ms",
        ),
        ("", f"p99 {median('messages', 'p99_ms'):.1f} ms", ""),
    ]
    return _table("PostgreSQL", len(results["sequential"]), rows)


def _table(store: str, rounds: int, rows: Sequence[tuple[str, str, str]]) -> str:
    lines = ["| work | measured | |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    head = f"Python {platform.python_version()}, {store}, medians of {rounds} rounds\n"
    return "\n".join([head, *lines])
