"""What somebody types to start a run, as arguments; and what a workflow takes, as far as its code is here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import msgspec


def arguments_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as the command line takes them: an array, an object of keywords, or the only one, if plain.

    Raises:
        ValueError: it isn't JSON; says where.

    Example:
        >>> arguments_of('["x", 2]'), arguments_of('{"topic": "x"}'), arguments_of("7"), arguments_of(" ")
        ((['x', 2], {}), ([], {'topic': 'x'}), ([7], {}), ([], {}))
    """
    if not text.strip():
        return [], {}
    try:
        given = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        msg = f'This isn\'t JSON: {error}. A text needs quotes, as in ["tardigrades"].'
        raise ValueError(msg) from None
    if isinstance(given, list):
        return given, {}
    if isinstance(given, dict):
        return [], given
    return [given], {}


def example_of(function: Callable[..., Any]) -> str:
    """What to begin with: an object of the parameters that have to be given, with values still to be filled in.

    Example:
        >>> def research(topic: str, depth: int = 2) -> str: ...
        >>> example_of(research)
        '{"topic": ""}'
    """
    plain: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False}
    plain |= {kind.__name__: value for kind, value in plain.items()}
    parameters = inspect.signature(function).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and each.kind not in _OPEN]
    if any(each.kind is each.POSITIONAL_ONLY for each in needed):
        return json.dumps([plain.get(each.annotation) for each in needed])
    return json.dumps({each.name: plain.get(each.annotation) for each in needed})


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def signature_of(function: Callable[..., Any]) -> str:
    """A function's parameters, as its code has them.

    Example:
        >>> def research(topic: str, depth: int = 2) -> str: ...
        >>> signature_of(research)
        '(topic: str, depth: int = 2) -> str'
    """
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=_named(each.annotation)) for each in signature.parameters.values()]
    returns = _named(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returns)).replace("'", "")


def _named(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
