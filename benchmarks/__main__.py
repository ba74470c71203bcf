"""Measures everybody on the same work, in alternating rounds, and writes tables and a picture.

Usage: python -m benchmarks [--quick] [--no-peers] [--store NAME] [--only NAME] [--work NAME] [--rounds N]
                            [--minutes N] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import plot, report
from benchmarks.peers import Peers
from benchmarks.rounds import Bench, Planned, Results, run
from benchmarks.works import CONTENDERS, OURS_INSIDE, WORKS, Contender

ROOT = Path(__file__).parents[1]
ENGINE_OF = {"with_dbos": "dbos", "with_absurd": "absurd", "with_restate": "restate"}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: a few minutes")
    parser.add_argument("--no-peers", action="store_true", help="only Perdure and the raw limits")
    parser.add_argument("--store", choices=["sqlite", "postgres", "own"], action="append", help="only these")
    parser.add_argument(
        "--only", metavar="CONTENDER", action="append", help="only these, such as dbos-sqlite"
    )
    parser.add_argument("--work", action="append", choices=[work.key for work in WORKS], help="only these")
    parser.add_argument("--rounds", type=int, help="at most; default: 5, or 2 if quick")
    parser.add_argument(
        "--minutes",
        type=float,
        help="for all rounds but the first; default: 60, 15 without peers, 5 if quick",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="where the databases are made: the disk to measure"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="for the results")
    parser.add_argument("--peers-folder", type=Path, default=ROOT / ".venv-peers")
    return parser.parse_args()


def _contenders(options: argparse.Namespace, missing: dict[str, str]) -> list[Contender]:
    return [
        one
        for one in (*CONTENDERS, *OURS_INSIDE)
        if (options.store is None or one.store in options.store)
        and (options.only is None or one.key in options.only)
        and not (one.peer and (options.no_peers or ENGINE_OF[one.module] in missing))
    ]


def _plan(options: argparse.Namespace, chosen: list[Contender]) -> list[Planned]:
    plan = []
    for work in WORKS:
        sizes = work.quick if options.quick else work.full
        if options.work and work.key not in options.work:
            continue
        if contenders := report.contenders_of(work, chosen):
            plan.append(Planned(work, sizes, contenders))
    return plan


def main() -> None:
    options = _options()
    rounds = options.rounds or (2 if options.quick else 5)
    peers = Peers(options.peers_folder)
    if not options.no_peers:
        peers.install()
    chosen = _contenders(options, peers.missing)
    if not any(one.peer for one in chosen):
        print("no peer takes part: ours only", file=sys.stderr)
    minutes = options.minutes or (5 if options.quick else 60 if any(one.peer for one in chosen) else 15)
    results = Results()
    # short: the name of a Unix socket has to fit in it
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder,
        Bench(Path(folder), peers) as bench,
    ):
        Path(folder).chmod(0o755)  # PostgreSQL's user has to enter it
        try:
            run(bench, _plan(options, chosen), rounds, minutes * 60, results)
        except KeyboardInterrupt:
            print("interrupted: what was measured until now is written", file=sys.stderr)
    _write(options, results, rounds, peers)


def _write(options: argparse.Namespace, results: Results, rounds: int, peers: Peers) -> None:
    versions = {} if options.no_peers else peers.versions()
    text = report.markdown(results, quick=options.quick, versions=versions, left_out=peers.missing)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.md").write_text(text)
    told = {"quick": options.quick, "rounds": rounds, "versions": versions, **asdict(results)}
    (options.out / "results.json").write_text(json.dumps(told, indent=1))
    print(text)
    if not plot.draw(results, options.out / "results.svg"):
        print("no picture: pip install 'perdure[bench]', and measure peers, too", file=sys.stderr)


if __name__ == "__main__":
    main()
