"""What can be said to a run at the moment: the messages it waits for, its updates and queries, with their forms.

It is asked for as a query under a name that no handler can have, so it is answered wherever a query is: by the run in
memory, from its history, or by a worker that has the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from perdure.codec.forms import schema_of
from perdure.core.commands import AwaitMessage
from perdure.core.machine import Machine
from perdure.errors import PerdureError
from perdure.runtime.handlers import Handler

#: Asked for like a query of this name.
INTERFACE: Final = "perdure:interface"


def interface(machine: Machine) -> tuple[bytes, dict[str, Any]]:
    """The forms by name: of messages that are waited for, of the arguments of updates and queries. None: not known."""
    messages: dict[str, Any] = {}
    for operation in machine.operations.values():
        if isinstance(operation, AwaitMessage) and operation.name not in messages:
            messages[operation.name] = _form(getattr(operation.decode, "type", Any))
    handlers = machine.handlers
    told = {
        "messages": messages,
        "updates": {} if handlers is None else _calls(handlers.updates),
        "queries": {} if handlers is None else _calls(handlers.queries),
    }
    return msgspec.json.encode(told), told


def _calls(handlers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: handler.schema() if isinstance(handler, Handler) else None for name, handler in handlers.items()
    }


def _form(annotation: Any) -> dict[str, Any] | None:
    if annotation is Any or annotation is None:
        return None
    try:
        return schema_of(annotation)
    except PerdureError:
        return None
