"""All commands, as one Typer application."""

from __future__ import annotations

from typing import Annotated

import typer

import perdure
from perdure.cli.archive import archive
from perdure.cli.backup import backup
from perdure.cli.blobs import blobs
from perdure.cli.budget import budget
from perdure.cli.callback import callback
from perdure.cli.calling import query, update
from perdure.cli.check import check
from perdure.cli.control import cancel, terminate
from perdure.cli.cost import cost
from perdure.cli.debug import debug
from perdure.cli.demo import demo
from perdure.cli.diff import diff
from perdure.cli.disk import disk, partition, vacuum
from perdure.cli.fork import fork
from perdure.cli.health import health
from perdure.cli.init import init
from perdure.cli.keys import erase, keys
from perdure.cli.letting_in import token
from perdure.cli.limits import limits
from perdure.cli.lint import lint
from perdure.cli.logs import logs
from perdure.cli.ls import ls
from perdure.cli.migrate import migrate
from perdure.cli.moving import export, import_, move
from perdure.cli.operating import pause, resume, retry
from perdure.cli.prune import prune, retention
from perdure.cli.publications import publications, publish, subscriptions
from perdure.cli.questions import answer, questions
from perdure.cli.queues import queues
from perdure.cli.quotas import quotas
from perdure.cli.resolve import resolve
from perdure.cli.restoring import restore
from perdure.cli.run import run
from perdure.cli.schedule import schedule
from perdure.cli.scope import with_namespaces
from perdure.cli.send import send
from perdure.cli.serve import dev, mcp, serve
from perdure.cli.show import show
from perdure.cli.stream import stream
from perdure.cli.top import top
from perdure.cli.torture import torture
from perdure.cli.trace import trace
from perdure.cli.trouble import Commands
from perdure.cli.verify import verify
from perdure.cli.why import why
from perdure.cli.worker import worker
from perdure.cli.workers import workers

app = typer.Typer(
    name="perdure",
    cls=Commands,
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


COMMANDS = (
    run, worker, serve, dev, mcp, health, workers, top, ls, show, why, trace, stream, logs, send, publish,
    publications, query, update, cancel, terminate, pause, resume, retry, fork, diff, debug, resolve, questions,
    answer, cost, prune, retention, blobs, disk, vacuum, partition,
    move, export, backup, restore, erase, migrate, check, verify, lint, init, demo, torture,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command("import")(import_)
app.add_typer(callback)
app.add_typer(queues)
app.add_typer(schedule)
app.add_typer(limits)
app.add_typer(quotas)
app.add_typer(keys)
app.add_typer(token)
app.add_typer(budget)
app.add_typer(archive)
app.add_typer(subscriptions)
with_namespaces(app)
