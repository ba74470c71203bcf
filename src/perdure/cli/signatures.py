"""Parameters of commands that aren't written at their functions: Typer makes options of a function's signature.

Options that several commands share are a dataclass, and each of them takes one of these: `spread` lets the command
line see its fields instead. Options that are added to many commands are told by `with_signature`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses of options are these options on the command line."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if dataclasses.is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def spread_out(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        command(**given)

    shown: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        shown += _fields(groups[name]) if name in groups else [parameter]
    return with_signature(spread_out, signature, shown)


def _fields(kind: Any) -> list[inspect.Parameter]:
    """A dataclass's fields, as parameters. Each has a default."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(kind)
    ]


def with_signature(
    command: Callable[..., Any], signature: inspect.Signature, parameters: Sequence[inspect.Parameter]
) -> Callable[..., Any]:
    """Let a command be taken for one of these parameters, which it gets by their names."""
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in named}
    del command.__wrapped__  # type: ignore[attr-defined] # whose signature would be taken
    return command
