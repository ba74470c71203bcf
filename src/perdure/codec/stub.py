"""Whether a call fits a function's parameters, asked of Python itself.

A stub with the same parameters and an empty body is called with the arguments. That is quicker than binding a
signature, and raises the very TypeError that the call would raise.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from types import FunctionType
from typing import Any

__all__ = ["stub_of"]


def _empty() -> None:
    pass


def stub_of(function: Callable[..., Any]) -> Callable[..., None]:
    """Return a function that takes what `function` takes, and does nothing.

    Example:
        >>> stub_of(lambda url: url)()
        Traceback (most recent call last):
        TypeError: <lambda>() missing 1 required positional argument: 'url'
    """
    parameters = list(inspect.signature(function).parameters.values())
    kinds = [parameter.kind for parameter in parameters]
    positional = [
        p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    keyword = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    collecting = [p for p in parameters if p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    # Python keeps the names in this order: positional, keyword-only, *args, **kwargs.
    names = tuple(parameter.name for parameter in [*positional, *keyword, *collecting])
    flags = _empty.__code__.co_flags
    flags |= inspect.CO_VARARGS if Parameter.VAR_POSITIONAL in kinds else 0
    flags |= inspect.CO_VARKEYWORDS if Parameter.VAR_KEYWORD in kinds else 0
    name: str = getattr(function, "__name__", "function")
    code = _empty.__code__.replace(
        co_argcount=len(positional),
        co_posonlyargcount=kinds.count(Parameter.POSITIONAL_ONLY),
        co_kwonlyargcount=len(keyword),
        co_varnames=names,
        co_nlocals=len(names),
        co_flags=flags,
        co_name=name,
        co_qualname=getattr(function, "__qualname__", name),
    )
    defaults = tuple(p.default for p in positional if p.default is not Parameter.empty)
    stub = FunctionType(code, {}, name, defaults)
    stub.__qualname__ = code.co_qualname
    stub.__kwdefaults__ = {p.name: p.default for p in keyword if p.default is not Parameter.empty}
    return stub
