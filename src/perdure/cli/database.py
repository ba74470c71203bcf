"""Which database a command works on, and opening it to look.

Looking must not create: a mistyped path is told, and leaves no file behind.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from perdure.api.engine import Engine
from perdure.cli.scope import VARIABLE, bound
from perdure.cli.trouble import Trouble, did_you_mean
from perdure.errors import UnknownRunError
from perdure.storage.urls import url_of_environment

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="PERDURE_URL", help="The database, such as sqlite:///agents.db.", show_default=False
    ),
]

_SUGGEST_FROM = 1000  # the newest runs, among which a mistyped id is looked for


def chosen(url: str | None) -> str:
    """The url from the command line or the environment.

    Raises:
        Trouble: there is none.
    """
    url = url or url_of_environment()
    if not url:
        raise Trouble("No database: give one with --url sqlite:///agents.db, or set PERDURE_URL.")
    return url


def url_again(url: str) -> str:
    """What a command that is to be typed again needs for the same part of the same database, with a space before."""
    again = "" if url_of_environment() == url else f" --url {shlex.quote(url)}"
    namespace = bound.get()
    if namespace is None or os.environ.get(VARIABLE) == namespace:
        return again
    return f"{again} --namespace {namespace}"


def reader(url: str | None) -> Engine:
    """An engine that looks and sends, and drives nothing. To be entered.

    Raises:
        Trouble: there is no such database.
    """
    where = chosen(url)
    if where.startswith("memory:"):
        raise Trouble(f"{where} is a database within one process and can't be read by another. Use a file.")
    prefix = "sqlite:///"
    if where.startswith(prefix):
        path = Path(unquote(where[len(prefix) :]))
        if not path.exists():
            others = (
                [str(other) for other in sorted(path.parent.glob("*.db"))[:5]] if path.parent.is_dir() else []
            )
            known = f" There are: {', '.join(others)}." if others else ""
            raise Trouble(
                f"There is no database at {path.absolute()}. `perdure run` and `perdure worker` create one; "
                f"this command only reads. Check --url and PERDURE_URL.{known}"
            )
    return Engine(where, worker=False, namespace=bound.get())


async def unknown(engine: Engine, error: UnknownRunError) -> Trouble:
    """What to say about an id that no run has: the ids that are near."""
    ids = [run.id async for run in engine.runs(limit=_SUGGEST_FROM)]
    near = did_you_mean(error.run_id, ids) or " `perdure ls` lists the runs."
    return Trouble(f"No run has the id {error.run_id!r} in {engine.url}.{near}")
