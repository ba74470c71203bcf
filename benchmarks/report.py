"""The figures as Markdown: medians side by side, how many times better ours are, and what ours are to reach."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apsw

from benchmarks.rounds import Results
from benchmarks.works import CONTENDERS, OURS_INSIDE, TARGETS, WORKS, Contender, Figure, Work

#: Who ours are compared with, on the same store; Restate has a store of its own, in the process beside, as SQLite.
RIVALS = {
    "perdure-sqlite": ("sqlite", "dbos-sqlite", "restate"),
    "perdure-postgres": ("postgres", "dbos-postgres", "absurd-postgres"),
}
LABELS = {contender.key: contender.label for contender in (*CONTENDERS, *OURS_INSIDE)}


def median(results: Results, work: str, contender: str, figure: str) -> float | None:
    rounds = results.figures.get(work, {}).get(contender, [])
    found = [one[figure] for one in rounds if one is not None and figure in one]
    return statistics.median(found) if found else None


def ratios(results: Results, work: str, ours: str, theirs: str, figure: Figure) -> list[float]:
    """In each round, how many times better ours is. Rounds that either didn't finish are left out."""
    of = results.figures.get(work, {})
    pairs = zip(of.get(ours, []), of.get(theirs, []), strict=False)
    found = []
    for mine, other in pairs:
        if mine and other and figure.name in mine and figure.name in other:
            ratio = mine[figure.name] / other[figure.name]
            found.append(ratio if figure.better == "higher" else 1 / ratio)
    return found


def rounds_of(results: Results, work: str) -> str:
    """In how many rounds a work was measured."""
    return str(max(len(rounds) for rounds in results.figures[work].values()))


def markdown(results: Results, *, quick: bool, versions: dict[str, str], left_out: dict[str, str]) -> str:
    parts = [f"# Benchmarks\n\n{_machine()}"]
    parts.append(
        "Medians of as many rounds as the tables say, in which everybody takes turns; each measurement in a process of "
        "its own. "
        + ("**Quick sizes: to see that all works; don't quote them.** " if quick else "")
        + "Absolute figures tell of this machine and its disk; the ratios say more."
    )
    if versions:
        parts.append(
            "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
        )
    parts += [f"{engine} is left out: {why}." for engine, why in left_out.items()]
    parts += ["## Side by side", _side_by_side(results)]
    if beaten := list(_comparisons(results)):
        parts += [
            "## How many times better Perdure is",
            "Median of the rounds' ratios (with the least and the most). Below 1 the other one is better; of a store "
            "alone, Perdure reaches that share.",
            _table(("work", "", *_rival_heads()), beaten),
        ]
    if inside := list(_inside(results)):
        parts += ["## Perdure alone", _table(("work", "figure", "store", "rounds", "measured"), inside)]
    if not quick and (reached := list(_targets(results))):
        parts += [
            "## Targets",
            _table(("work", "figure", "Perdure on", "target", "measured", "", "rounds"), reached),
        ]
    if results.failures:
        failed = [
            (results.titles[work], LABELS[contender], text.replace("|", "/")[:200])
            for work, of in results.failures.items()
            for contender, text in of.items()
        ]
        parts += ["## What didn't finish", _table(("work", "who", "why"), failed)]
    return "\n\n".join(parts) + "\n"


def _machine() -> str:
    cpu = "an unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = f"{len(names)} x {names[0]}" if names else cpu
    return (
        f"{cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {apsw.sqlite_lib_version()}."
    )


def _work(key: str) -> Work:
    return next(work for work in WORKS if work.key == key)


def _shown(value: float | None, figure: Figure) -> str:
    return "" if value is None else f"{value:,.{figure.digits}f}"


def _side_by_side(results: Results) -> str:
    columns = [one for one in CONTENDERS if any(one.key in of for of in results.figures.values())]
    rows = []
    for work in WORKS:
        if not _shared(work) or work.key not in results.figures:
            continue
        for figure in work.figures:
            values = [median(results, work.key, one.key, figure.name) for one in columns]
            if any(value is not None for value in values):
                rows.append(
                    (
                        results.titles[work.key],
                        figure.label,
                        rounds_of(results, work.key),
                        *(_shown(value, figure) for value in values),
                    )
                )
    return _table(("work", "", "rounds", *(one.label for one in columns)), rows)


def _shared(work: Work) -> bool:
    return bool(work.modules & {one.module for one in CONTENDERS})


def _inside(results: Results) -> Iterator[tuple[str, ...]]:
    for work in WORKS:
        if _shared(work):
            continue
        for contender in results.figures.get(work.key, {}):
            for figure in work.figures:
                value = median(results, work.key, contender, figure.name)
                if value is not None:
                    yield (
                        results.titles[work.key],
                        figure.label,
                        LABELS[contender],
                        rounds_of(results, work.key),
                        _shown(value, figure),
                    )


def _rival_heads() -> list[str]:
    return [
        f"{ours.split('-')[1]} / {LABELS[theirs]}" for ours, rivals in RIVALS.items() for theirs in rivals
    ]


def _comparisons(results: Results) -> Iterator[tuple[str, ...]]:
    for work in WORKS:
        for figure in work.figures:
            cells = [
                _times(ratios(results, work.key, ours, theirs, figure))
                for ours, rivals in RIVALS.items()
                for theirs in rivals
            ]
            if any(cells):
                yield (results.titles[work.key], figure.label, *cells)


def _times(found: Sequence[float]) -> str:
    if not found:
        return ""
    middle, least, most = statistics.median(found), min(found), max(found)
    told = _two_digits(middle)
    return told if len(found) == 1 else f"{told} ({_two_digits(least)} - {_two_digits(most)})"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def _targets(results: Results) -> Iterator[tuple[str, ...]]:
    for target in TARGETS:
        work = _work(target.work)
        figure = next(one for one in work.figures if one.name == target.figure)
        measured: float | None
        if target.of is None:
            measured = median(results, target.work, target.contender, target.figure)
            told = _shown(measured, figure)
        else:
            found = ratios(results, target.work, target.contender, target.of, figure)
            measured = statistics.median(found) if found else None
            told = _two_digits(measured) if measured is not None else ""
        if measured is None:
            continue
        higher = figure.better == "higher" or target.of is not None
        reached = measured >= target.bound if higher else measured <= target.bound
        wanted = f"{'>=' if higher else '<='} {target.bound:,g}" + (
            f" x {LABELS[target.of]}" if target.of else ""
        )
        store = target.contender.split("-")[1]
        yield (
            results.titles[work.key],
            figure.label,
            store,
            wanted,
            told,
            "reached" if reached else "**missed**",
            rounds_of(results, work.key),
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def contenders_of(work: Work, chosen: Sequence[Contender]) -> list[Contender]:
    return [
        one
        for one in chosen
        if one.module in work.modules and one.store in work.stores and one.key not in work.without
    ]
