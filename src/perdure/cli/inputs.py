"""From `--input` to a call: JSON, read by the workflow's own annotations.

An array holds the positional arguments, an object the keyword arguments, and anything else is the one
argument of a workflow that takes one.
"""

from __future__ import annotations

import functools
import inspect
import json
from typing import Any, NoReturn

import msgspec

from perdure.api.call import Call
from perdure.api.durable import Workflow
from perdure.cli.trouble import Trouble
from perdure.codec.values import ValueCodec
from perdure.errors import UndecodableError

Raws = tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]


def call_with(workflow: Workflow[..., Any], text: str | None) -> Call[Any]:
    """The call of a workflow with the arguments given as JSON.

    Raises:
        Trouble: it isn't JSON, or doesn't fit the workflow's parameters.
    """
    args, kwargs = ([], {}) if text is None else parse(text, "--input")
    arguments = workflow.definition.arguments
    try:
        arguments.fits(*args, **kwargs)
    except TypeError as error:
        hint = ""
        if kwargs:
            hint = " An object gives keyword arguments; as one argument it stands in an array: [{...}]"
        elif text is None:
            hint = " Give the arguments with --input, as a JSON array."
        raise Trouble(
            f"The input doesn't fit the workflow: {error}.{hint}\n  {signature(workflow)}"
        ) from None
    try:
        given, named = arguments.decode(msgspec.json.encode((args, kwargs)))
    except UndecodableError as error:
        raise Trouble(f"{_misfit(workflow, args, kwargs) or error}\n  {signature(workflow)}") from None
    return workflow(*given, **named)


def json_value(text: str) -> msgspec.Raw:
    """One value, as it was given: read and written again, a large number would lose digits.

    Raises:
        Trouble: it isn't JSON.
    """
    try:
        json.loads(text, parse_constant=_no_number)
        return msgspec.Raw(text.encode())
    except (ValueError, RecursionError) as error:  # half a surrogate pair, where the shell gave odd bytes
        raise Trouble(
            f"The value isn't JSON: {error}. Texts need double quotes, and all of it single quotes in a shell: "
            "'\"text\"'"
        ) from None


def _no_number(name: str) -> NoReturn:
    raise Trouble(f"The value isn't JSON: {name} is no JSON number.")


def signature(workflow: Workflow[..., Any]) -> str:
    """How the workflow is called, as its source says it."""
    try:
        told = inspect.signature(workflow.function, eval_str=True)
    # Evaluating annotations runs whatever they say.
    except Exception:  # noqa: BLE001
        told = inspect.signature(workflow.function)
    return f"{workflow.function.__name__}{told}"


def parse(text: str, what: str) -> Raws:
    """Positional and keyword arguments from JSON, each raw, so that its own parameter's type can read it.

    Args:
        what: where the text comes from, for messages: "--input".

    Raises:
        Trouble: it isn't JSON.
    """
    no_constant = functools.partial(_no_constant, what)
    try:
        value = json.loads(text, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        line = error.doc.split("\n")[error.lineno - 1]
        start = max(0, error.colno - 40)  # a long line is shown around the mistake
        shown = line[start : start + 70]
        raise Trouble(
            f"{what} isn't JSON: {error.msg}, line {error.lineno}, column {error.colno}.\n"
            f"  {shown}\n  {' ' * (error.colno - 1 - start)}^\n"
            "Texts need double quotes in JSON, and all of it single quotes in a shell: '[\"text\"]'"
        ) from None
    except RecursionError:
        raise Trouble(f"{what} is nested too deeply to be read.") from None
    # Read again as raw parts: each is then decoded by its own parameter's type, and no digit is lost.
    data = text.encode(errors="surrogateescape")
    try:
        if isinstance(value, list):
            return msgspec.json.decode(data, type=list[msgspec.Raw]), {}
        if isinstance(value, dict):
            return [], msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise Trouble(f"{what} isn't JSON: {error}") from None
    return [msgspec.Raw(data)], {}


def _no_constant(what: str, name: str) -> NoReturn:
    raise Trouble(f"{what} isn't JSON: {name} is no JSON number.")


def _misfit(
    workflow: Workflow[..., Any], args: list[msgspec.Raw], kwargs: dict[str, msgspec.Raw]
) -> str | None:
    """Names the argument that doesn't fit its type."""
    function = workflow.function
    parameters = inspect.signature(function).parameters
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    for name, raw in bound.items():
        if not isinstance(raw, msgspec.Raw):
            continue  # *args or **kwargs
        try:
            ValueCodec[Any](parameters[name].annotation, name, owner=function).decode(raw)
        except UndecodableError as error:
            return f"The argument {name!r} doesn't fit its type: {error.__cause__ or error}."
    return None
