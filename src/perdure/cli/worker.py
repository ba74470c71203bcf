"""`perdure worker`: drives the runs of some modules' workflows until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

import typer

from perdure.api.engine import Engine
from perdure.cli.children import is_child, stop_with_parent
from perdure.cli.crew import own_number, run_crew
from perdure.cli.database import UrlOption, chosen
from perdure.cli.health import LIVE, READY, HealthHostOption, HealthPortOption, health_port
from perdure.cli.loading import load_module
from perdure.cli.metrics import (
    PATH,
    MetricsDatabaseOption,
    MetricsHostOption,
    MetricsPortOption,
    OtelOption,
    telemetry,
)
from perdure.cli.notifying import keep_manager, supervised
from perdure.cli.output import keep_step_logs, log_to_stderr, tell
from perdure.cli.stopping import StopRequest, end_process
from perdure.cli.trouble import Trouble
from perdure.cli.workeroptions import (
    ConcurrencyOption,
    GraceOption,
    LeaseOption,
    LogFormatOption,
    ModulesArgument,
    NameOption,
    ProcessesOption,
    QueuesOption,
    StepLogsOption,
    VersionOption,
    WorkersOption,
)
from perdure.core.errands import step_of
from perdure.runtime.definitions import drivable, step_names, workflow_names
from perdure.runtime.sideport import Port, side_ports
from perdure.storage.urls import shown_url


def worker(
    modules: ModulesArgument,
    queues: QueuesOption = "default",
    concurrency: ConcurrencyOption = 1000,
    processes: ProcessesOption = None,
    grace: GraceOption = 5.0,
    lease: LeaseOption = 15.0,
    workers: WorkersOption = 1,
    name: NameOption = None,
    version: VersionOption = None,
    step_logs: StepLogsOption = False,
    log_format: LogFormatOption = None,
    otel: OtelOption = False,
    probes_at: HealthPortOption = None,
    probes_on: HealthHostOption = "127.0.0.1",
    metrics_at: MetricsPortOption = None,
    metrics_on: MetricsHostOption = "127.0.0.1",
    metrics_of_database: MetricsDatabaseOption = False,
    url: UrlOption = None,
) -> None:
    """Drive runs until Ctrl-C or SIGTERM, then hand them back. A second signal ends it at once."""
    if workers > 1 and not is_child():
        raise typer.Exit(run_crew(sys.argv[1:], workers))
    if is_child():
        stop_with_parent()
    number = own_number()
    keep_manager()
    where = chosen(url)
    names = tuple(name.strip() for name in queues.split(",") if name.strip())
    if not names:
        raise Trouble(
            f"--queues {queues!r} names no queue: give names with commas between, such as default,slow."
        )
    for module in modules:
        load_module(module)
    if not workflow_names() and not step_names():
        raise Trouble(
            f"There is no workflow in {', '.join(modules)}: decorate an async function with @workflow. For a worker "
            "that only executes steps of others, @step is enough."
        )
    log_to_stderr(logging.INFO, log_format)
    if step_logs:
        keep_step_logs(logging.INFO)
    engine = Engine(
        where,
        queues=names,
        concurrency=concurrency,
        processes=processes,
        grace=grace,
        lease=lease,
        name=f"{name}-{number}" if name and number else name,
        version=version,
    )
    told = telemetry(engine, _own(metrics_at, number), metrics_on, database=metrics_of_database, otel=otel)
    at = _own(probes_at, number)
    probes = None if at is None else (probes_on, at)
    asyncio.run(_serve(engine, names, grace, probes, told))
    end_process(0)


def _own(port: int | None, number: int) -> int | None:
    """The port of this one of several workers. 0 stays 0: any that is free."""
    return port + number - 1 if port and number else port


async def _serve(
    engine: Engine,
    queues: tuple[str, ...],
    grace: float,
    probes: tuple[str, int] | None,
    metrics: Sequence[Port],
) -> None:
    stop = StopRequest(
        lambda: tell(
            f"Stopping: steps have {grace:g} s to finish, runs are handed back. Once more, and it ends."
        )
    )
    ports = [] if probes is None else [health_port(*probes, engine.health, stop.made.is_set)]
    async with side_ports([*ports, *metrics]) as addresses, engine:
        told = f"  probes     {addresses[0]}{LIVE}, {READY}\n" if probes is not None else ""
        told += f"  metrics    {addresses[-1]}{PATH}\n" if metrics else ""
        tell(
            f"Worker {os.getpid()} serves {shown_url(engine.url)}\n"
            f"  queues     {', '.join(queues)}\n"
            f"{_code(queues)}{told}"
            "Ctrl-C or SIGTERM stops it in good order."
        )
        async with supervised(engine.health):
            await stop.made.wait()
    tell("Stopped; all runs were handed back.")


def _code(queues: Sequence[str]) -> str:
    """What this process has code for, as far as these queues need it."""
    names = drivable(queues)
    steps = [step for name in names if (step := step_of(name)) is not None]
    names = [name for name in names if step_of(name) is None]
    told = f"  workflows  {', '.join(names)}\n" if names else ""
    return told + (f"  steps      {', '.join(steps)}\n" if steps else "")
