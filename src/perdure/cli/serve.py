"""`perdure serve`: the dashboard and the HTTP API of a database; `perdure dev`: the same, and a worker, in one process;
`perdure mcp`: the same for agents."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.api.engine import Engine
from perdure.api.metrics import Metrics
from perdure.cli.children import is_child, stop_with_parent
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.letting_in import ServerOptions, keep_audit, web_package
from perdure.cli.loading import load_module
from perdure.cli.metrics import tell_by_otel
from perdure.cli.notifying import keep_manager, supervised
from perdure.cli.output import keep_step_logs, log_to_stderr, tell
from perdure.cli.reloading import run_and_reload
from perdure.cli.scope import bound
from perdure.cli.signatures import spread
from perdure.cli.stopping import StopRequest, end_process
from perdure.cli.trouble import Trouble
from perdure.storage.urls import shown_url


@spread
def serve(
    options: ServerOptions,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            metavar="MODULE",
            help="Code that checks what is started, and whose webhooks are taken.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Serve the dashboard and the HTTP API of a database. It drives no runs; workers do."""
    for module in modules or ():
        load_module(module)
    let_in = options.access()
    _run(reader(url), let_in, options)


@spread
def dev(
    modules: Annotated[list[str], typer.Argument(metavar="MODULE...", help="Modules that hold workflows.")],
    options: ServerOptions,
    queues: Annotated[str, typer.Option("--queues", metavar="A,B", help="The queues to serve.")] = "default",
    reload: Annotated[
        bool, typer.Option(help="Start again when a Python file below this folder changes.")
    ] = True,
    url: UrlOption = None,
) -> None:
    """Drive runs and serve the dashboard and the HTTP API, in one process: all that developing needs."""
    if reload and not is_child():
        raise typer.Exit(run_and_reload(sys.argv[1:], Path.cwd()))
    if is_child():
        stop_with_parent()
    keep_manager()
    for module in modules:
        load_module(module)
    names = [name.strip() for name in queues.split(",") if name.strip()]
    let_in = options.access()
    engine = Engine(chosen(url), queues=names or ["default"], namespace=bound.get())
    _run(engine, let_in, options, keep_logs=True)


def _run(engine: Engine, let_in: Any, options: ServerOptions, *, keep_logs: bool = False) -> None:
    let_in.check_bind(options.host)
    metrics = Metrics()
    if options.otel:
        tell_by_otel(metrics)
    metrics.install()
    log_to_stderr(logging.INFO)
    if keep_logs:
        keep_step_logs(logging.INFO)
    keep_audit(options.audit_log)
    asyncio.run(_serve(engine, let_in, options.host, options.port))
    end_process(0)


async def _serve(engine: Engine, let_in: Any, host: str, port: int) -> None:
    stop = StopRequest(lambda: tell("Stopping. Once more, and it ends."))
    serving = importlib.import_module("perdure.web.serving")

    def ready(address: str) -> None:
        told = f"{shown_url(engine.url)} is served at {address} (the API: {address}/api/v1)"
        tell(f"{told}\nCtrl-C or SIGTERM stops it.")

    async with engine, supervised(engine.health):
        await serving.serve(engine, let_in, host=host, port=port, stop=stop.made, ready=ready)


def mcp(
    role: Annotated[
        str, typer.Option("--role", metavar="viewer|operator", help="What those who use it may do.")
    ] = "viewer",
    by: Annotated[str, typer.Option("--by", help="Who they are, for the histories.")] = "an agent",
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module", metavar="MODULE", help="Code that checks what is started.", show_default=False
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Serve a database to an agent by the Model Context Protocol, over standard input and output."""
    for module in modules or ():
        load_module(module)
    web = web_package()
    try:
        agents = importlib.import_module("perdure.web.agents")
    except ImportError as error:
        raise Trouble(
            f"MCP needs a package that isn't installed ({error.name}): pip install 'perdure[mcp]'"
        ) from error
    allowed = web.Role.named(role)

    async def talk() -> None:
        async with reader(url) as engine:
            await agents.mcp_server(engine, allowed, by=by).run_stdio_async()

    log_to_stderr(logging.WARNING)
    asyncio.run(talk())
