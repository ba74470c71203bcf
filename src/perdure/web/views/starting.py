"""What somebody types to start a run, as arguments; and what a workflow takes, as far as its code is here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.codec.kinds import is_dict, is_sequence


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
        given: Any = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        msg = f'This isn\'t JSON: {error}. A text needs quotes, as in ["tardigrades"].'
        raise ValueError(msg) from None
    if is_sequence(given):
        return list(given), {}
    if is_dict(given):
        return [], given
    return [given], {}


def signature_of(function: Callable[..., Any]) -> str:
    """A function's parameters, as its code has them.

    Example:
        >>> def research(topic: str, tone: str = "calm") -> str: ...
        >>> signature_of(research)
        "(topic: str, tone: str = 'calm') -> str"
    """
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=_named(each.annotation)) for each in signature.parameters.values()]
    return str(
        signature.replace(parameters=parameters, return_annotation=_named(signature.return_annotation))
    )


class _Code(str):
    """A text that a signature shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _named(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    return _Code(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))
