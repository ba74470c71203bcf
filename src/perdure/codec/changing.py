"""Changes parts of a call's recorded input: what a fork does to the requests of steps.

The input is `[[positional, ...], {"keyword": ...}]` (arguments.py). A *path* leads to a part of it: a parameter's name,
and from there keys of objects and places in arrays, with dots between them; `*` is all of them: `model`,
`request.messages.0.content`, `messages.*.content`. Of a step that is given one object, a path may begin in that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

__all__ = ["Misplaced", "put", "reworded"]


class Misplaced(ValueError):
    """A path leads nowhere. The message says where it ends."""


def put(
    args: list[Any],
    kwargs: dict[str, Any],
    path: str,
    value: Any,
    *,
    positions: Sequence[str | None],
    named: Callable[[str], bool],
) -> None:
    """Put a value where a path leads to.

    Args:
        args, kwargs: the input, which is changed.
        positions: the parameters' names by position.
        named: whether the function has a parameter of this name.

    Raises:
        Misplaced: it leads nowhere.
    """
    head, _, rest = path.partition(".")
    if head in positions and positions.index(head) < len(args):
        place: Any = args
        key: Any = positions.index(head)
    elif head in kwargs or named(head):
        place, key = kwargs, head
        if rest and head not in kwargs:
            msg = f"the argument {head!r} isn't given, so there is no part {path!r} of it"
            raise Misplaced(msg)
        if not rest and head in positions and positions.index(head) == len(args):
            args.append(value)  # as the call itself would be written down
            return
    elif len(args) == 1 and not kwargs and _is_object(args[0]):
        _put(args[0], path.split("."), value, path)
        return
    else:
        known = ", ".join([*(name or "(unnamed)" for name in positions[: len(args)]), *kwargs])
        msg = f"there is no argument {head!r}: it is called with {known or 'none'}"
        raise Misplaced(msg)
    if rest:
        _put(place[key], rest.split("."), value, path)
    else:
        place[key] = value


def _put(place: Any, keys: Sequence[str], value: Any, path: str) -> None:
    key, rest = keys[0], keys[1:]
    if _is_object(place):
        chosen: list[Any] = list(place) if key == "*" else [key]
        if rest and key != "*" and key not in place:
            msg = f"{path!r} leads nowhere: there is no {key!r} among {', '.join(map(repr, place)) or 'nothing'}"
            raise Misplaced(msg)
    elif _is_array(place):
        if key != "*" and not (key.removeprefix("-").isdigit() and -len(place) <= int(key) < len(place)):
            msg = f"{path!r} leads nowhere: {key!r} is no place among {len(place)} items"
            raise Misplaced(msg)
        chosen = list(range(len(place))) if key == "*" else [int(key)]
    else:
        msg = f"{path!r} leads nowhere: before {key!r} there is {json.dumps(place)[:40]}, which has no parts"
        raise Misplaced(msg)
    for one in chosen:
        if rest:
            _put(place[one], rest, value, path)
        else:
            place[one] = value


def reworded(value: Any, text: Iterable[tuple[str, str]]) -> Any:
    """The same value, with other texts in the place of some in all its texts; keys of objects stay."""
    if isinstance(value, str):
        for old, new in text:
            value = value.replace(old, new)
        return value
    if _is_array(value):
        return [reworded(item, text) for item in value]
    if _is_object(value):
        return {key: reworded(item, text) for key, item in value.items()}
    return value


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
