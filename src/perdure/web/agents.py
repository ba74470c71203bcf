"""An MCP server: what an agent (or a person's assistant) may look at, and do, with the runs of a database.

Its tools are those of a role, as over HTTP: a viewer's look, an operator's act as well. What a tool can't do it says as
the error's own text, which tells what to do next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import msgspec
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

import perdure
from perdure.api.decisions import UNDECIDED
from perdure.api.engine import Engine
from perdure.api.facts import event_facts, run_facts
from perdure.api.naming import named_call
from perdure.core.why import Why
from perdure.errors import PerdureError, RunError
from perdure.web.access import Role
from perdure.web.runs import plain

P = ParamSpec("P")
R = TypeVar("R")

_LOOKING = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ACTING = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_ENDING = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)

_TOLD = """Runs are executions of durable workflows: what they did is recorded step by step, and they survive crashes.
Ask explain_run why one doesn't go on; its causes name what helps."""

RunId = Annotated[str, Field(description="The run's id.")]


def mcp_server(engine: Engine, role: Role = Role.VIEWER, *, by: str = "an agent") -> MCPServer[Any]:
    """A server over an open engine, to be run over stdio or HTTP.

    Args:
        role: what those who use it may do.
        by: who they are, for the histories in which they decide something.

    Example:
        >>> await mcp_server(engine, Role.OPERATOR).run_stdio_async()  # doctest: +SKIP
    """
    server: MCPServer[Any] = MCPServer(
        "perdure", version=perdure.__version__, instructions=_TOLD, log_level="WARNING"
    )
    _add_looking(server, engine)
    _add_waiting(server, engine)
    if role >= Role.OPERATOR:
        _add_talking(server, engine, by)
        _add_operating(server, engine)
    return server


def _told(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Errors of the engine as errors of the tool, in their own words."""

    @wraps(function)
    async def tool(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except (PerdureError, TimeoutError) as error:
            raise ToolError(f"{type(error).__name__}: {error}") from error

    return tool


def _add_looking(server: MCPServer[Any], engine: Engine) -> None:
    @server.tool(annotations=_LOOKING)
    @_told
    async def list_runs(
        status: Annotated[
            list[str] | None, Field(description="Only these, such as blocked or failed.")
        ] = None,
        workflow: str | None = None,
        text: Annotated[str | None, Field(description="Part of the id.")] = None,
        limit: Annotated[int, Field(ge=1, le=200)] = 20,
    ) -> list[dict[str, Any]]:
        """Runs, newest first."""
        found = engine.runs(status=status, workflow=workflow, text=text, limit=limit)
        return [run_facts(run) async for run in found]

    @server.tool(annotations=_LOOKING)
    @_told
    async def get_run(id: RunId) -> dict[str, Any]:
        """A run: its status, what it waits for, its attributes, and what it has spent."""
        handle = engine.get(id)
        usage = msgspec.to_builtins(await handle.usage())
        return {**run_facts(await handle.info()), "usage": usage}

    @server.tool(annotations=_LOOKING)
    @_told
    async def explain_run(id: RunId) -> dict[str, Any]:
        """Why a run doesn't go on, since when, and what helps."""
        return _explained(await engine.get(id).why())

    @server.tool(annotations=_LOOKING)
    @_told
    async def get_history(
        id: RunId,
        after: Annotated[int, Field(ge=0, description="Start behind the event with this number.")] = 0,
        limit: Annotated[int, Field(ge=1, le=500)] = 100,
    ) -> list[dict[str, Any]]:
        """A run's events, in order: what its steps returned, what failed, what it waited for."""
        facts: list[dict[str, Any]] = []
        async for event in engine.get(id).history(after=after):
            (told,) = event_facts([event])
            facts.append({**told, "seq": after + len(facts) + 1})
            if len(facts) == limit:
                break
        return facts

    @server.tool(annotations=_LOOKING)
    @_told
    async def look_back(
        id: RunId,
        seq: Annotated[
            int | None,
            Field(ge=1, description="After the event with this number; without it, the newest one."),
        ] = None,
    ) -> dict[str, Any]:
        """Where a run's code stood after one of its events: each task's lines, sources and local variables."""
        told: dict[str, Any] = msgspec.to_builtins(await engine.get(id).at(seq))
        del told["files"]
        return told


def _add_waiting(server: MCPServer[Any], engine: Engine) -> None:
    @server.tool(annotations=_LOOKING)
    @_told
    async def get_result(
        id: RunId, wait: Annotated[float, Field(ge=0, le=60, description="Seconds to wait for it.")] = 0
    ) -> dict[str, Any]:
        """How a run has ended, or that it hasn't."""
        handle = engine.get(id)
        try:
            return {"status": "completed", "result": plain(await handle.result(timeout=wait or 1e-9))}
        except RunError as error:
            return {"status": (await handle.status()).value, "error": str(error)}
        except TimeoutError:
            return {"status": (await handle.status()).value}

    @server.tool(annotations=_LOOKING)
    @_told
    async def list_questions(
        run: Annotated[str | None, Field(description="Only those of this run.")] = None,
    ) -> list[dict[str, Any]]:
        """What runs ask of people and hasn't been answered: each with the JSON schema of its answer."""
        return [
            {
                "id": item.id,
                "run": item.run,
                "text": item.text,
                "schema": item.schema,
                "details": item.details,
            }
            async for item in engine.questions(run=run)
        ]


def _explained(why: Why) -> dict[str, Any]:
    data: dict[str, Any] = plain(msgspec.to_builtins(why))
    return data


def _add_talking(server: MCPServer[Any], engine: Engine, by: str) -> None:
    @server.tool(annotations=_ACTING)
    @_told
    async def start_run(
        workflow: Annotated[str, Field(description="The workflow's durable name.")],
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        id: Annotated[str | None, Field(description="Starting again with it means the same run.")] = None,
    ) -> dict[str, str]:
        """Start a run."""
        handle = await engine.start(named_call(workflow, args or [], kwargs), id=id)
        return {"id": handle.id}

    @server.tool(annotations=_ACTING)
    @_told
    async def send_message(id: RunId, name: str, value: Any = None, key: str | None = None) -> dict[str, str]:
        """Send a run a message. A second one of the same name and key is ignored."""
        await engine.get(id).send(name, value, key=key)
        return {"id": id}

    @server.tool(annotations=_ACTING)
    @_told
    async def answer_question(question: str, value: Any) -> dict[str, str]:
        """Answer what a run asks, once; the value fits the question's schema."""
        await engine.answer(question, value, by=by, via="mcp")
        return {"id": question}

    @server.tool(annotations=_ACTING)
    @_told
    async def resolve_step(
        id: RunId,
        step: str,
        result: Annotated[Any, Field(description="It is done, with this result.")] = None,
        rerun: Annotated[bool, Field(description="It didn't happen: run it again.")] = False,
        fail: Annotated[str | None, Field(description="Let it fail, with this message.")] = None,
        why: str | None = None,
        since: Annotated[
            float | None,
            Field(description="When the wait began that you looked at: it is about no other one."),
        ] = None,
    ) -> dict[str, str]:
        """Decide about a step that waits for a person."""
        decided: Any = UNDECIDED if rerun or fail is not None else result
        given: dict[str, Any] = {"result": decided, "rerun": rerun, "fail": fail or False}
        await engine.get(id).resolve(step, **given, by=by, why=why, since=since)
        return {"id": id}


def _add_operating(server: MCPServer[Any], engine: Engine) -> None:
    @server.tool(annotations=_ACTING)
    @_told
    async def retry_run(id: RunId) -> dict[str, str]:
        """Let a failed run go on from its failed step, keeping what succeeded."""
        await engine.get(id).retry()
        return {"id": id}

    @server.tool(annotations=_ACTING)
    @_told
    async def fork_run(
        id: RunId,
        at: Annotated[
            int | str | None, Field(description="Take nothing over from this event or step on.")
        ] = None,
        edits: Annotated[dict[str, Any] | None, Field(description="Other results, by step.")] = None,
        new_id: str | None = None,
    ) -> dict[str, str]:
        """Start a run of its own that goes on from what this one has done, paying only for what is different."""
        made = await engine.get(id).fork(at, edits=edits, id=new_id)
        return {"id": made.id}

    @server.tool(annotations=_ACTING)
    @_told
    async def pause_run(id: RunId, reason: str | None = None) -> dict[str, str]:
        """Hold a run."""
        await engine.get(id).pause(reason)
        return {"id": id}

    @server.tool(annotations=_ACTING)
    @_told
    async def resume_run(id: RunId) -> dict[str, str]:
        """Let a paused run go on."""
        await engine.get(id).resume()
        return {"id": id}

    @server.tool(annotations=_ENDING)
    @_told
    async def cancel_run(id: RunId, reason: str | None = None) -> dict[str, str]:
        """Ask a run to end; its code may tidy up."""
        await engine.get(id).cancel(reason)
        return {"id": id}
