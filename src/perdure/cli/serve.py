"""`perdure serve`: the HTTP API of a database; `perdure dev`: the same, and a worker, in one process; and the tokens
by which others are let in."""

from __future__ import annotations

import asyncio
import importlib
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.api.engine import Engine
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.loading import load_module
from perdure.cli.output import keep_step_logs, log_to_stderr, tell
from perdure.cli.stopping import StopRequest, end_process
from perdure.cli.trouble import Trouble
from perdure.storage.urls import shown_url

HostOption = Annotated[str, typer.Option("--host", help="Where to listen.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]
TokensOption = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="Whom to let in, see `perdure token`.", show_default=False),
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host-name",
        metavar="NAME",
        help="A name by which it is reached; may be repeated.",
        show_default=False,
    ),
]


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8700,
    tokens: TokensOption = None,
    host_names: NameOption = None,
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
    _run(reader(url), host, port, tokens, host_names)


def dev(
    modules: Annotated[list[str], typer.Argument(metavar="MODULE...", help="Modules that hold workflows.")],
    host: HostOption = "127.0.0.1",
    port: PortOption = 8700,
    tokens: TokensOption = None,
    host_names: NameOption = None,
    queues: Annotated[str, typer.Option("--queues", metavar="A,B", help="The queues to serve.")] = "default",
    url: UrlOption = None,
) -> None:
    """Drive runs and serve the dashboard and the HTTP API, in one process: all that developing needs."""
    for module in modules:
        load_module(module)
    names = [name.strip() for name in queues.split(",") if name.strip()]
    _run(Engine(chosen(url), queues=names or ["default"]), host, port, tokens, host_names, keep_logs=True)


def _run(
    engine: Engine,
    host: str,
    port: int,
    tokens: Path | None,
    host_names: list[str] | None,
    *,
    keep_logs: bool = False,
) -> None:
    web = _web()
    access = web.Access(
        tokens=None if tokens is None else web.Tokens.load(tokens), hosts=tuple(host_names or ())
    )
    access.check_bind(host)
    log_to_stderr(logging.INFO)
    if keep_logs:
        keep_step_logs(logging.INFO)
    asyncio.run(_serve(engine, access, host, port))
    end_process(0)


async def _serve(engine: Engine, access: Any, host: str, port: int) -> None:
    stop = StopRequest(lambda: tell("Stopping. Once more, and it ends."))
    serving = importlib.import_module("perdure.web.serving")

    def ready(address: str) -> None:
        told = f"{shown_url(engine.url)} is served at {address} (the API: {address}/api/v1)"
        tell(f"{told}\nCtrl-C or SIGTERM stops it.")

    async with engine:
        await serving.serve(engine, access, host=host, port=port, stop=stop.made, ready=ready)


def _web() -> Any:
    """The package, which needs an extra; loaded by name, as edges don't import each other."""
    try:
        importlib.import_module("perdure.web.serving")
    except ImportError as error:
        raise Trouble(
            f"Serving needs packages that aren't installed ({error.name}). "
            "Install them: pip install 'perdure[server]'"
        ) from error
    return importlib.import_module("perdure.web")


token = typer.Typer(name="token", help="Tokens by which the server lets others in.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Option("--tokens", metavar="FILE", help="Where their digests are kept.")]


@token.command("new")
def new_token(
    name: Annotated[
        str, typer.Argument(help="Whose it is; a new one of the same name replaces the old one.")
    ],
    role: Annotated[
        str, typer.Option("--role", metavar="viewer|operator|admin", help="What it lets one do.")
    ] = "viewer",
    file: FileArgument = Path("perdure-tokens.json"),
) -> None:
    """Make a token and print it, this once: only its digest is kept."""
    web = _web()
    found = web.Tokens.load(file) if file.exists() else web.Tokens()
    made = found.issue(name, web.Role.named(role))
    found.save(file)
    typer.echo(made)
    tell(f"{name} is {role}. Start the server again with --tokens {file}")


@token.command("ls")
def list_tokens(file: FileArgument = Path("perdure-tokens.json")) -> None:
    """Whose tokens there are."""
    for name, (_, role) in sorted(_web().Tokens.load(file).by_name.items()):
        typer.echo(f"{name}\t{role.name.lower()}")


@token.command("rm")
def remove_token(
    name: Annotated[str, typer.Argument(help="Whose.")], file: FileArgument = Path("perdure-tokens.json")
) -> None:
    """Make a token void."""
    found = _web().Tokens.load(file)
    if found.by_name.pop(name, None) is None:
        raise Trouble(f"There is no token of {name!r} in {file}: perdure token ls --tokens {file}")
    found.save(file)
    tell(f"The token of {name} is void as soon as the server is started again.")


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
    web = _web()
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
