"""All metrics there are: the one list by which they are counted, shown, documented and tested.

Names and units are those of Prometheus; other systems get names that are made of these. Labels take few values:
names of workflows, steps, queues and the like, never ids; see registry.py for what becomes of too many.

What a worker counts (scope "worker") is its own, so the sums over all workers are right. What is read from the database
(scope "database") is the same whoever reads it: take the maximum over those who do, never the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

#: Upper bounds of the bars of histograms; what is above the last one is counted, too.
STEPS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
RUNS: Final = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 21_600, 86_400, 604_800)
WAITS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 3600, 21_600)
COMMITS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
LATENESS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 300)


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        unit: as in OpenTelemetry: "s", "By", "USD", "1" for a share, or what is counted, in braces.
        help: what it is, in a sentence.
        scope: "worker": each process has its own; "database": it is the same whoever reads it.
        buckets: of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    scope: Literal["worker", "database"] = "worker"
    buckets: tuple[float, ...] = ()

    @property
    def otel_name(self) -> str:
        """The name by OpenTelemetry's conventions, from which a collector makes Prometheus' one again."""
        plain = self.name.removesuffix("_total")
        for suffix in ("_seconds", "_bytes", "_ratio"):
            plain = plain.removesuffix(suffix)
        return plain.replace("_", ".")


def _counter(name: str, unit: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, help, labels)


def _histogram(name: str, unit: str, buckets: tuple[float, ...], help: str, *labels: str) -> Metric:
    return Metric(name, "histogram", unit, help, labels, buckets=buckets)


def _here(name: str, unit: str, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, help, labels)


def _database(name: str, unit: str, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, help, labels, "database")


_ALL = (
    # -- runs
    _counter(
        "perdure_runs_started_total",
        "{run}",
        "Runs that a worker began to drive for the first time.",
        "workflow",
        "queue",
    ),
    _counter(
        "perdure_runs_ended_total",
        "{run}",
        "Runs that ended, by how: completed, failed, cancelled, terminated or continued.",
        "workflow",
        "status",
    ),
    _histogram(
        "perdure_run_duration_seconds",
        "s",
        RUNS,
        "From a run's start to its end, waiting included.",
        "workflow",
        "status",
    ),
    _histogram(
        "perdure_run_start_latency_seconds",
        "s",
        WAITS,
        "From asking for a run to the first turn of its code, the delay of a delayed start included.",
        "queue",
    ),
    _counter(
        "perdure_runs_blocked_total",
        "{run}",
        "Runs that were left blocked here, by code: code, step, history.",
        "workflow",
        "code",
    ),
    _counter("perdure_runs_taken_over_total", "{run}", "Runs taken over whose worker was lost.", "workflow"),
    _counter("perdure_messages_received_total", "{message}", "Messages that came to runs.", "workflow"),
    _histogram(
        "perdure_timer_lateness_seconds",
        "s",
        LATENESS,
        "How long after its due time a timer was recorded as fired.",
    ),
    # -- steps
    _counter(
        "perdure_steps_ended_total",
        "{step}",
        "Steps that have an outcome: completed or failed.",
        "step",
        "outcome",
    ),
    _counter(
        "perdure_step_attempts_total",
        "{attempt}",
        "Ended attempts of steps: completed, failed (for good), retry (another follows), parked (a person decides).",
        "step",
        "outcome",
    ),
    _histogram(
        "perdure_step_duration_seconds", "s", STEPS, "How long attempts of steps took.", "step", "outcome"
    ),
    _counter("perdure_limit_waits_total", "{wait}", "Waits of steps for a rate limit.", "limit"),
    _histogram(
        "perdure_limit_wait_seconds",
        "s",
        WAITS,
        "How long steps were told to wait for a rate limit.",
        "limit",
    ),
    _counter(
        "perdure_budget_waits_total",
        "{step}",
        "Steps that were parked because a budget had no money left.",
        "budget",
    ),
    # -- money
    _counter("perdure_calls_total", "{call}", "Paid calls whose usage is recorded.", "model"),
    _counter(
        "perdure_calls_unknown_total", "{call}", "Paid calls of which nobody knows what they have used."
    ),
    _counter(
        "perdure_tokens_total",
        "{token}",
        "Tokens used, by kind: input, output, and of these cached, written and reasoning.",
        "model",
        "kind",
    ),
    _counter(
        "perdure_spent_usd_total", "USD", "Money spent on calls whose price is known, in US dollars.", "model"
    ),
    # -- the engine
    _here("perdure_resident_runs", "{run}", "Runs in this process' memory."),
    _here("perdure_executing_steps", "{attempt}", "Attempts of steps that execute in this process."),
    _counter("perdure_runs_claimed_total", "{run}", "Runs that this worker took from the database."),
    _counter("perdure_evictions_total", "{run}", "Runs that left memory while they wait."),
    _counter(
        "perdure_replays_total",
        "{replay}",
        "Runs that were brought back into memory by replaying their histories.",
        "workflow",
    ),
    _counter("perdure_replay_events_total", "{event}", "Events that were fed in replays."),
    _histogram("perdure_replay_duration_seconds", "s", STEPS, "How long replays took."),
    _counter("perdure_journal_commits_total", "{commit}", "Batches of appends that became durable."),
    _counter("perdure_journal_events_total", "{event}", "Events that became durable."),
    _histogram(
        "perdure_journal_commit_seconds",
        "s",
        COMMITS,
        "From handing a batch to the store to its being durable.",
    ),
    _histogram("perdure_journal_batch_appends", "{append}", BATCHES, "Appends in a batch."),
    _counter(
        "perdure_store_errors_total",
        "{error}",
        "Times that the database refused or couldn't be reached, by what it was asked: append, claim or look.",
        "operation",
    ),
    _here(
        "perdure_worker_info",
        "1",
        "Always 1: which versions run here, and for which queues.",
        "perdure_version",
        "code_version",
        "queues",
    ),
    # -- the process
    Metric(
        "process_cpu_seconds_total", "counter", "s", "Processor time of this process, by user and system."
    ),
    _here("process_resident_memory_bytes", "By", "Memory of this process that is resident."),
    _here("process_open_fds", "{descriptor}", "Open file descriptors of this process."),
    _here("process_start_time_seconds", "s", "When this process started, in seconds since 1970."),
    # -- the database
    _database("perdure_db_runs", "{run}", "Runs that haven't ended, by status.", "workflow", "status"),
    _database(
        "perdure_db_runs_blocked",
        "{run}",
        "Blocked runs, by code: code, step, poison, history.",
        "workflow",
        "code",
    ),
    _database(
        "perdure_db_queue_depth",
        "{run}",
        "Runs that could begin or go on and wait for a slot or a worker.",
        "queue",
    ),
    _database("perdure_db_queue_delayed", "{run}", "Runs of a queue whose time hasn't come.", "queue"),
    _database(
        "perdure_db_queue_running",
        "{run}",
        "Runs of a queue that hold a slot, or that workers have in memory.",
        "queue",
    ),
    _database(
        "perdure_db_queue_oldest_age_seconds",
        "s",
        "How long the longest waiting run of a queue could have begun; 0 if none waits.",
        "queue",
    ),
    _database("perdure_db_queue_workers", "{worker}", "Workers that serve a queue.", "queue"),
    _database("perdure_db_queue_held", "1", "1 if a queue is paused or draining, else 0.", "queue"),
    _database("perdure_db_workers", "{worker}", "Workers by state: alive, late, stopping, gone.", "state"),
    _database(
        "perdure_db_worker_heartbeat_age_seconds",
        "s",
        "How long the worker that is silent for longest wasn't heard of.",
    ),
    _database(
        "perdure_db_limit_waiting", "{step}", "Steps that have a place in a rate limit's line.", "limit"
    ),
    _database(
        "perdure_db_budget_used_ratio",
        "1",
        "How much of a budget's fullest account is spent, as a share.",
        "budget",
    ),
    _database(
        "perdure_db_budget_spent_usd",
        "USD",
        "What a budget's fullest account has spent, in US dollars.",
        "budget",
    ),
    _database("perdure_db_budget_waiting", "{step}", "Steps that wait for a budget's money.", "budget"),
    _database(
        "perdure_db_spent_today_usd", "USD", "Money spent since midnight (UTC) by all runs, in US dollars."
    ),
    _database("perdure_db_size_bytes", "By", "Room that the database takes in its files."),
    _database("perdure_db_free_bytes", "By", "Room of these files that is free, and will be used again."),
    _database("perdure_db_log_bytes", "By", "Room that the database's log takes beside them."),
    _database(
        "perdure_db_up", "1", "1 if the database answered when these numbers were wanted last, else 0."
    ),
    _database("perdure_db_look_seconds", "s", "How long it took to read these numbers."),
    _database("perdure_db_look_age_seconds", "s", "How old these numbers are."),
)

#: By name.
CATALOGUE: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}


def table() -> str:
    """The catalogue for the documentation, as tables of Markdown."""
    lines: list[str] = []
    for scope, title in (("worker", "Of each process"), ("database", "Of the whole database")):
        lines += [f"### {title}", "", "| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
        for metric in CATALOGUE.values():
            if metric.scope == scope:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                unit = metric.unit.strip("{}")
                lines.append(f"| `{metric.name}` | {metric.kind} | {unit} | {labels} | {metric.help} |")
        lines.append("")
    return "\n".join(lines)
