"""Tools of the Agents SDK, as durable steps.

A tool's call is known by the id that the model gave it, so any number of them may execute at once and end in any
order. What the SDK does around it (guardrails, hooks, approvals, time-outs, what the model is told of an error) stays
in workflow code; what touches the world is the step: the function's body, a command in a shell, an edit of a file.

Hosted tools are executed by the provider, and agents as tools are runs of their own within the run: neither is a step.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

import agents.tool as sdk
import msgspec
from agents.editor import ApplyPatchOperation, ApplyPatchResult

from perdure.api.call import current_machine
from perdure.api.inline import Carrier, in_run, inline_step
from perdure.errors import ConfigurationError
from perdure.integrations.data import PydanticCarrier, as_data, step_key, step_name
from perdure.integrations.openai_agents_context import Outcome, OutcomeCarrier, Snapshot, apply
from perdure.integrations.openai_agents_models import Scene
from perdure.integrations.openai_agents_outputs import OutputCarrier

_OUTPUTS: dict[str, Any] = {
    "text": sdk.ToolOutputText,
    "image": sdk.ToolOutputImage,
    "file": sdk.ToolOutputFileContent,
}
_SHELL = PydanticCarrier(sdk.ShellResult | str, "result of a shell tool")
_EDIT = PydanticCarrier(ApplyPatchResult | str | None, "result of an edit")

#: How often each run has had a call's id, by the run's loop.
_met: WeakKeyDictionary[Any, dict[tuple[str, str], int]] = WeakKeyDictionary()


def durable_tool(tool: Any, scene: Scene) -> Any:
    """A copy of the tool whose calls are steps; or the tool itself, if it does nothing here.

    Raises:
        ConfigurationError: it is of a kind that can't be durable.
    """
    if isinstance(tool, sdk.FunctionTool):
        return tool if tool._is_agent_tool or _is_durable(tool) else _function(tool, scene)
    if isinstance(tool, sdk.CustomTool):
        made = copy.copy(tool)
        made.on_invoke_tool = _step_of(made.name, tool.on_invoke_tool, scene, OutputCarrier(None, _OUTPUTS))
        return made
    if isinstance(tool, sdk.ShellTool | sdk.LocalShellTool):
        return tool if tool.executor is None else _shell(tool, scene)
    if isinstance(tool, sdk.ApplyPatchTool):
        return dataclasses.replace(tool, editor=_Editor(tool.editor, tool.name, scene))
    if isinstance(tool, sdk.ComputerTool):
        msg = (
            "a ComputerTool can't be durable: a screen has a state that no history can bring back. Use the computer "
            "within one step: call the plain Runner.run(...) in a @step"
        )
        raise ConfigurationError(msg)
    return tool


def step_of_call(name: str, id: str, call: Any, *, given: Any, carrier: Carrier, scene: Scene) -> Any:
    """The step that a tool's call is."""
    name = step_name(name)
    machine = current_machine()
    assert machine is not None
    met = _met.setdefault(machine.loop, {})
    before = met.get((name, id), 0)
    met[name, id] = before + 1
    options = scene.tool_options(name, step_key(id, before))
    return inline_step(name, call, given=given, result=carrier, options=options)


# -- functions ------------------------------------------------------------------------------------------


def _function(tool: sdk.FunctionTool, scene: Scene) -> sdk.FunctionTool:
    made = copy.copy(tool)
    invoker: Any = made.on_invoke_tool
    carrier = OutputCarrier(_declared(tool), _OUTPUTS)
    body: Any = getattr(invoker, "_invoke_tool_impl", None)
    if body is None:  # the tool's own invoker, which has an error as its answer, or none
        made.on_invoke_tool = _step_of(tool.name, invoker, scene, carrier)
    else:
        # The step is what is within the SDK's handling of errors: so an error can be tried again, and what the
        # model is told of it comes after the last attempt.
        step = _step_of(tool.name, body, scene, carrier)
        for mark in ("__agents_prepare_arguments__", "__agents_function_tool_wrapped_callable__"):
            if hasattr(body, mark):
                setattr(step, mark, getattr(body, mark))
        around = copy.copy(invoker)
        around._invoke_tool_impl = step
        around._function_tool = made
        made.on_invoke_tool = around
    vars(made)[_DURABLE] = True
    return made


_DURABLE = "_perdure_durable"


def _is_durable(tool: sdk.FunctionTool) -> bool:
    return _DURABLE in vars(tool)


def _step_of(
    name: str, body: Callable[[Any, str], Any], scene: Scene, carrier: Carrier
) -> Callable[[Any, str], Awaitable[Any]]:
    outcomes = OutcomeCarrier(carrier)

    async def invoke(context: Any, input: str) -> Any:
        executed = False

        async def call() -> Any:
            value = body(context, input)
            return await value if inspect.isawaitable(value) else value

        async def noting(_: Any) -> Outcome:
            nonlocal executed
            before = Snapshot(context.context)
            value = await call()
            executed = True
            return Outcome(value, before.changes(name))

        if not in_run():
            return await call()
        id, given = context.tool_call_id, _arguments(input)
        outcome = await step_of_call(name, id, noting, given=given, carrier=outcomes, scene=scene)
        if not executed:
            apply(context.context, outcome.changes)
        return outcome.value

    return invoke


def _arguments(input: str) -> Any:
    """What a tool is called with as data, as far as it is: people read it in histories."""
    try:
        given = msgspec.json.decode(input)
        msgspec.json.encode(given)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return input
    return given


def _declared(tool: sdk.FunctionTool) -> Any:
    """What the tool's function says that it returns."""
    try:
        function: Any = tool.__wrapped__
        function = function if inspect.isroutine(function) else function.__call__
        return typing.get_type_hints(function).get("return")
    except Exception:  # no function, or names that are only there for type checkers  # noqa: BLE001
        return None


# -- shells and files -----------------------------------------------------------------------------------


def _shell(tool: Any, scene: Scene) -> Any:
    executor = tool.executor

    async def execute(request: Any) -> Any:
        async def call(_: Any) -> Any:
            value = executor(request)
            return await value if inspect.isawaitable(value) else value

        if not in_run():
            return await call(None)
        data = request.data
        given = as_data(getattr(data, "action", None))
        return await step_of_call(tool.name, data.call_id, call, given=given, carrier=_SHELL, scene=scene)

    return dataclasses.replace(tool, executor=execute)


class _Editor:
    """An editor whose edits are steps. A call may hold several edits, so they are known by their position."""

    def __init__(self, editor: Any, name: str, scene: Scene) -> None:
        self._editor = editor
        self._name = step_name(name)
        self._scene = scene

    async def _edit(self, way: str, operation: ApplyPatchOperation) -> Any:
        async def call(_: Any) -> Any:
            value = getattr(self._editor, way)(operation)
            return await value if inspect.isawaitable(value) else value

        if not in_run():
            return await call(None)
        given = as_data({"type": operation.type, "path": operation.path, "diff": operation.diff})
        options = self._scene.settings.tool_options(self._name)
        step: Any = inline_step(f"{self._name}.{way}", call, given=given, result=_EDIT, options=options)
        return await cast("Awaitable[Any]", step)

    async def create_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit("create_file", operation)

    async def update_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit("update_file", operation)

    async def delete_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit("delete_file", operation)
