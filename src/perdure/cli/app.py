"""All commands, as one Typer application. Each is imported when it is called, so that nobody waits for the others."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import perdure
from perdure.cli.trouble import reported

#: By its name, the module of each command and of each group of commands, in the order in which help lists them.
COMMANDS = {
    "run": "run",
    "worker": "worker",
    "serve": "serve",
    "dev": "serve",
    "mcp": "serve",
    "health": "health",
    "workers": "workers",
    "top": "top",
    "ls": "ls",
    "show": "show",
    "why": "why",
    "trace": "trace",
    "stream": "stream",
    "logs": "logs",
    "send": "send",
    "publish": "publications",
    "publications": "publications",
    "query": "calling",
    "update": "calling",
    "cancel": "control",
    "terminate": "control",
    "pause": "operating",
    "resume": "operating",
    "retry": "operating",
    "fork": "fork",
    "diff": "diff",
    "debug": "debug",
    "resolve": "resolve",
    "questions": "questions",
    "answer": "questions",
    "cost": "cost",
    "prune": "prune",
    "retention": "prune",
    "blobs": "blobs",
    "disk": "disk",
    "vacuum": "disk",
    "partition": "disk",
    "move": "moving",
    "export": "moving",
    "import": "moving",
    "backup": "backup",
    "restore": "restoring",
    "erase": "keys",
    "migrate": "migrate",
    "check": "check",
    "verify": "verify",
    "lint": "lint",
    "init": "init",
    "demo": "demo",
    "torture": "torture",
    "callback": "callback",
    "queues": "queues",
    "schedule": "schedule",
    "limits": "limits",
    "quotas": "quotas",
    "keys": "keys",
    "token": "letting_in",
    "budget": "budget",
    "archive": "archive",
    "subscriptions": "publications",
}


@functools.cache
def command(name: str) -> Any:
    """A command or a group of them, made ready for the command line."""
    from perdure.cli.scope import with_namespaces

    found = getattr(import_module(f"perdure.cli.{COMMANDS[name]}"), name if name != "import" else "import_")
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        found = alone
    with_namespaces(found)
    made = typer.main.get_command(found)
    made.name = name
    return made


class _Commands(dict[str, Any]):
    """Knows the names of all; makes those that are asked for."""

    def __init__(self) -> None:
        super().__init__(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        return command(name) if name in COMMANDS else super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        return command(name) if name in COMMANDS else default

    def values(self) -> Any:
        return [command(name) for name in self]

    def items(self) -> Any:
        return [(name, command(name)) for name in self]


class Root(TyperGroup):
    """The group of all commands, which turns trouble into messages."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()

    def invoke(self, ctx: Any) -> Any:
        with reported():
            return super().invoke(ctx)


app = typer.Typer(
    name="perdure",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"perdure {perdure.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable execution for Python. The database is given by --url or PERDURE_URL, a namespace of it by --namespace."""
