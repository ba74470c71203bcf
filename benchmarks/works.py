"""What is measured, how large it is, and who takes part: data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Store = Literal["sqlite", "postgres", "own"]


@dataclass(frozen=True)
class Contender:
    """An engine on a store; or a store on its own, the floor.

    Attributes:
        store: on "own" a folder is given, as on SQLite.
        module: of benchmarks.engines.
        peer: whether it comes from elsewhere, and is measured in the peers' environment.
    """

    key: str
    label: str
    store: Store
    module: str
    peer: bool = False


CONTENDERS = (
    Contender("sqlite", "SQLite alone", "sqlite", "bare_sqlite"),
    Contender("perdure-sqlite", "Perdure, SQLite", "sqlite", "with_perdure"),
    Contender("dbos-sqlite", "DBOS, SQLite", "sqlite", "with_dbos", peer=True),
    Contender("postgres", "PostgreSQL alone", "postgres", "bare_postgres"),
    Contender("perdure-postgres", "Perdure, PostgreSQL", "postgres", "with_perdure"),
    Contender("dbos-postgres", "DBOS, PostgreSQL", "postgres", "with_dbos", peer=True),
    Contender("absurd-postgres", "Absurd, PostgreSQL", "postgres", "with_absurd", peer=True),
    Contender("restate", "Restate", "own", "with_restate", peer=True),
)

#: Measured inside of Perdure, by modules that no other engine has.
OURS_INSIDE = (
    Contender("perdure-sqlite", "Perdure, SQLite", "sqlite", "perdure_inside"),
    Contender("perdure-postgres", "Perdure, PostgreSQL", "postgres", "perdure_postgres"),
    Contender("perdure-sqlite", "Perdure, SQLite", "sqlite", "perdure_workers"),
    Contender("perdure-postgres", "Perdure, PostgreSQL", "postgres", "perdure_workers"),
)


@dataclass(frozen=True)
class Figure:
    """One number that a work gives."""

    name: str
    label: str
    better: Literal["higher", "lower"]
    digits: int = 0


STEPS = (Figure("steps_per_s", "steps/s", "higher"),)
SPREAD = (Figure("p50_ms", "p50 ms", "lower", 2), Figure("p99_ms", "p99 ms", "lower", 2))
SECONDS = (Figure("seconds", "s", "lower", 2),)
BESIDE = (
    Figure("steps_per_s", "steps/s", "higher"),
    Figure("commits_per_s", "bare commits/s", "higher"),
    Figure("share", "share", "higher", 2),
)

Sizes = dict[str, int]


@dataclass(frozen=True)
class Work:
    """
    Attributes:
        title: with the sizes to be filled in.
        function: of the engines' modules; one of that name with `_before` first prepares, and may kill itself.
        full, quick: its sizes.
        modules: who does it.
        stores: where it is done.
        without: contenders for whom it would take too long.
        most_rounds: the longest one isn't repeated. The others are as often as time allows (rounds.py).
    """

    key: str
    title: str
    function: str
    figures: tuple[Figure, ...]
    full: Sizes
    quick: Sizes
    modules: frozenset[str]
    stores: frozenset[Store] = frozenset({"sqlite", "postgres", "own"})
    without: frozenset[str] = frozenset()
    most_rounds: int = 100
    seconds: int = 900  #: after which a measurement is given up
    prepared: bool = False
    unprepared: frozenset[str] = field(default=frozenset())  #: those that do it in one process


def _modules(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGINES = _modules("with_perdure with_dbos with_absurd with_restate")
ALL = ENGINES | _modules("bare_sqlite bare_postgres")
OURS = _modules("with_perdure")
RESTATE = _modules("with_restate")


def _many(runs: int, quick: int) -> Work:
    return Work(
        f"many_{runs}",
        "{runs:,} runs x {steps} steps",
        "many",
        STEPS,
        {"runs": runs, "steps": 10},
        {"runs": quick, "steps": 10},
        ALL,
        without=frozenset({"dbos-sqlite"} if runs > 1000 else ()),  # minutes; a thousand say as much
    )


def _payloads(label: str, size: int, steps: int, quick: int) -> Work:
    return Work(
        f"payload_{label.replace(' ', '')}",
        f"steps that return {label}",
        "payloads",
        STEPS,
        {"bytes": size, "steps": steps},
        {"bytes": size, "steps": quick},
        ALL,
    )


def _growing(steps: int, quick: int, places: tuple[int, ...], modules: frozenset[str]) -> Work:
    return Work(
        f"growing_{steps}",
        "a history of {steps:,} steps",
        "growing",
        tuple(Figure(f"at_{place}_us", f"us at step {place:,}", "lower") for place in places),
        {"steps": steps},
        {"steps": quick},
        modules,
        seconds=1800,
    )


def _recovery(steps: int, quick: int, modules: frozenset[str]) -> Work:
    return Work(
        f"recovery_{steps}",
        "recovery of a run with {steps:,} steps",
        "recovery",
        SECONDS,
        {"steps": steps},
        {"steps": quick},
        modules,
        prepared=True,
        unprepared=RESTATE,
        seconds=1800,
    )


def _sleepers(
    runs: int,
    quick: int,
    modules: frozenset[str],
    stores: frozenset[Store] = frozenset({"sqlite", "postgres", "own"}),
) -> Work:
    return Work(
        f"sleepers_{runs}",
        "{runs:,} sleeping runs",
        "sleepers",
        (
            Figure("first_wake_ms", "first wake ms", "lower"),
            Figure("rss_mb", "RSS MB", "lower"),
            Figure("disk_bytes_per_run", "disk bytes/run", "lower"),
        ),
        {"runs": runs},
        {"runs": quick},
        modules,
        stores,
        most_rounds=1 if runs > 100_000 else 100,
        prepared=True,
        unprepared=RESTATE,
        seconds=3600,
    )


WORKS = (
    Work(
        "sequential", "{steps:,} sequential steps", "sequential", STEPS, {"steps": 2000}, {"steps": 300}, ALL
    ),
    _many(300, 100),
    _many(1000, 200),
    _many(5000, 400),
    Work("latency", "start to result, one step", "latency", SPREAD, {"times": 300}, {"times": 50}, ENGINES),
    Work("message", "message and answer", "message", SPREAD, {"times": 300}, {"times": 50}, ENGINES),
    Work(
        "timers_1000",
        "{timers:,} timers due in one second, lateness",
        "timers",
        SPREAD,
        {"timers": 1000, "lead": 30},
        {"timers": 200, "lead": 12},
        ENGINES,
    ),
    Work(
        "timers_10000",
        "{timers:,} timers due in one second, lateness",
        "timers",
        SPREAD,
        {"timers": 10_000, "lead": 15},
        {"timers": 1_000, "lead": 6},
        OURS | RESTATE,
    ),
    _recovery(10_000, 1_000, ENGINES),
    _recovery(100_000, 5_000, OURS),
    Work(
        "restart",
        "restart with {runs:,} interrupted runs",
        "restart",
        SECONDS,
        {"runs": 1000, "steps": 3},
        {"runs": 100, "steps": 3},
        ENGINES,
        prepared=True,
        unprepared=RESTATE,
    ),
    Work(
        "restart_10000",
        "restart with {runs:,} interrupted runs",
        "restart",
        SECONDS,
        {"runs": 10_000, "steps": 3},
        {"runs": 300, "steps": 3},
        OURS,
        prepared=True,
    ),
    _sleepers(5_000, 500, ENGINES),
    _sleepers(100_000, 1_000, OURS),
    _sleepers(1_000_000, 2_000, OURS, frozenset({"sqlite"})),
    Work(
        "mapped",
        "a map over {items:,} items",
        "mapped",
        (Figure("items_per_s", "items/s", "higher"),),
        {"items": 5_000},
        {"items": 500},
        ENGINES - _modules("with_absurd"),
    ),
    Work(
        "mapped_100000",
        "a map over {items:,} items",
        "mapped",
        (Figure("items_per_s", "items/s", "higher"),),
        {"items": 100_000},
        {"items": 2_000},
        OURS,
    ),
    _payloads("1 kB", 1_000, 500, 100),
    _payloads("100 kB", 100_000, 200, 20),
    _payloads("1 MB", 1_000_000, 50, 5),
    _growing(5_000, 1_000, (100, 1_000), ENGINES),
    _growing(100_000, 2_000, (100, 10_000, 100_000), OURS),
    Work(
        "replay",
        "replay",
        "replay",
        (Figure("events_per_s", "events/s", "higher"),),
        {"steps": 50_000},
        {"steps": 5_000},
        _modules("perdure_inside"),
    ),
    Work(
        "memory",
        "a suspended run in memory",
        "memory",
        (Figure("bytes_per_run", "bytes", "lower"), Figure("receiving", "bytes, receiving", "lower")),
        {"runs": 8_000},
        {"runs": 2_000},
        _modules("perdure_inside"),
    ),
    Work(
        "overhead",
        "disk beyond the payload",
        "overhead",
        (Figure("bytes_per_event", "bytes/event", "lower"),),
        {"runs": 1_000, "steps": 20},
        {"runs": 100, "steps": 20},
        _modules("perdure_inside"),
        most_rounds=1,
    ),
    Work(
        "fsyncs",
        "syncs per step",
        "fsyncs",
        (Figure("fsyncs_per_commit", "syncs", "lower", 3),),
        {"steps": 500},
        {"steps": 100},
        _modules("perdure_inside"),
        most_rounds=1,
    ),
    Work(
        "beside_raw",
        "steps and bare commits in slices",
        "beside_raw",
        BESIDE,
        {"slices": 6, "steps": 2_000},
        {"slices": 3, "steps": 100},
        _modules("perdure_postgres perdure_inside"),
    ),
    Work(
        "beside_raw_slower",
        "the same where each sync takes {slower_us} us longer",
        "beside_raw_slower",
        BESIDE,
        {"slices": 8, "steps": 500, "slower_us": 250},
        {"slices": 3, "steps": 100, "slower_us": 250},
        _modules("perdure_postgres perdure_inside"),
    ),
    Work(
        "two_workers",
        "{runs:,} runs x 10 steps, two workers",
        "two_workers",
        (
            Figure("one_steps_per_s", "steps/s of one", "higher"),
            Figure("two_steps_per_s", "steps/s of two", "higher"),
            Figure("ratio", "two / one", "higher", 2),
        ),
        {"runs": 12_000},
        {"runs": 300},
        _modules("perdure_workers"),
    ),
    Work(
        "remote_message",
        "message to a run on another worker",
        "messages",
        SPREAD,
        {"times": 300},
        {"times": 50},
        _modules("perdure_workers"),
    ),
)


@dataclass(frozen=True)
class Target:
    """What a figure of ours is to reach, by itself or as a multiple of somebody else's in the same rounds."""

    work: str
    figure: str
    contender: str
    bound: float
    of: str | None = None


#: Medians on two cores. A figure that is better when lower must be at most the bound.
TARGETS = (
    Target("sequential", "steps_per_s", "perdure-sqlite", 0.8, of="sqlite"),
    Target("many_1000", "steps_per_s", "perdure-sqlite", 40_000),
    Target("many_1000", "steps_per_s", "perdure-sqlite", 100, of="dbos-sqlite"),
    Target("many_1000", "steps_per_s", "perdure-sqlite", 15, of="restate"),
    Target("two_workers", "two_steps_per_s", "perdure-sqlite", 40_000),
    Target("many_1000", "steps_per_s", "perdure-postgres", 15_000),
    Target("many_1000", "steps_per_s", "perdure-postgres", 40, of="dbos-postgres"),
    Target("many_1000", "steps_per_s", "perdure-postgres", 10, of="absurd-postgres"),
    Target("two_workers", "ratio", "perdure-postgres", 1.3),
    Target("latency", "p50_ms", "perdure-sqlite", 1.5),
    Target("message", "p50_ms", "perdure-sqlite", 3),
    Target("timers_10000", "p99_ms", "perdure-sqlite", 25),
    Target("replay", "events_per_s", "perdure-sqlite", 200_000),
    Target("recovery_100000", "seconds", "perdure-sqlite", 0.7),
    Target("memory", "bytes_per_run", "perdure-sqlite", 4_000),
    Target("overhead", "bytes_per_event", "perdure-sqlite", 400),
    Target("sleepers_1000000", "rss_mb", "perdure-sqlite", 200),
)
