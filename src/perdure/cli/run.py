"""`perdure run`: one workflow, from its start or from where it stood, to its result.

The result goes to stdout as JSON, all else to stderr. The same command again, with the same id, gives the
same result and does no work twice.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
import uuid
from typing import Annotated, Any

import typer

from perdure.api.call import Call
from perdure.api.durable import Workflow
from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.cli.database import UrlOption, chosen, url_again
from perdure.cli.inputs import call_with
from perdure.cli.loading import load_workflow
from perdure.cli.output import complain, log_to_stderr, tell
from perdure.cli.scope import bound
from perdure.cli.stopping import StopRequest, end_process
from perdure.cli.trouble import RUN_FAILED, Trouble
from perdure.core.status import Status
from perdure.errors import EngineClosedError, RunError

_LOOK_EVERY = 0.5  # seconds between looks at whether the run is blocked


def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:WORKFLOW", help="Such as app:research.")],
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="JSON",
            help="An array of arguments, an object of keyword arguments, or the only argument, if plain.",
            show_default=False,
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id", help="The run's id. An existing one is gone on with.", show_default="a random one"
        ),
    ] = None,
    url: UrlOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.001,
            help="Cancel the run after this time.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a workflow and print its result as JSON.

    Exit code 0: completed. 1: it failed, was cancelled or is blocked. 2: it couldn't be started. 130: Ctrl-C.
    """
    where = chosen(url)
    workflow = load_workflow(target)
    call = call_with(workflow, input)
    log_to_stderr(logging.WARNING)
    logging.getLogger("perdure.worker").addFilter(_told_below)
    given = uuid.uuid4().hex if id is None else id
    again = ["perdure", "run", target, *(["--input", input] if input is not None else []), "--id", given]
    try:
        code = asyncio.run(_drive(workflow, call, given, where, timeout, shlex.join(again)))
    finally:
        logging.getLogger("perdure.worker").removeFilter(_told_below)
        call.close()  # unused, if the database can't be opened
    end_process(code)


def _told_below(record: logging.LogRecord) -> bool:
    """Keeps out of the log why this very run is blocked, since the command itself says so."""
    return "is blocked" not in str(record.msg)


async def _drive(
    workflow: Workflow[..., Any], call: Call[Any], id: str, url: str, timeout: float | None, again: str
) -> int:
    """Drive the run to its end, or until the user has enough. Returns the exit code."""
    stop = StopRequest(
        lambda: tell("Handing the run back; steps may finish first. Once more, and it ends at once.")
    )
    async with Engine(url, namespace=bound.get()) as engine:
        handle = await engine.start(call, id=id, timeout=timeout)
        ended = asyncio.create_task(handle.result())
        blocked = asyncio.create_task(_blocked(handle))
        stopped = asyncio.create_task(stop.made.wait())
        await asyncio.wait([ended, blocked, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        blocked.cancel()
    # The engine is closed now, and the wait is over: by the run's end, perhaps only just, or for good.
    await asyncio.wait([ended, blocked])
    if not isinstance(ended.exception(), EngineClosedError):
        return _report(workflow, id, url, ended)
    if not blocked.cancelled():
        raise Trouble(
            f"Run {id} is blocked. {blocked.result()}\nNothing is lost: when that is mended, the same command "
            "goes on with it.",
            RUN_FAILED,
        )
    tell(f"Run {id} was handed back. Nothing is lost; go on with it:\n  {again}{url_again(url)}")
    return stop.exit_code


async def _blocked(handle: Handle[Any]) -> str:
    """Returns when the run is blocked, and would be waited for in vain: the reason."""
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        if await handle.status() is Status.BLOCKED:
            return (await handle.info()).reason or "No reason is recorded."


def _report(workflow: Workflow[..., Any], id: str, url: str, ended: asyncio.Task[Any]) -> int:
    error = ended.exception()
    if error is None:
        sys.stdout.write(workflow.definition.result.encode(ended.result()).decode() + "\n")
        return 0
    if not isinstance(error, RunError):
        raise error
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", []))
    complain(f"{error}{notes}\nIts history: perdure show {shlex.quote(id)}{url_again(url)}")
    return RUN_FAILED
