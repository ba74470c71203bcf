"""Calls a query handler or a validator on a machine, in a turn that changes nothing.

The guard and the turn limit hold as in any turn of workflow code. How such a call ends is the asker's: none of it
blocks or fails the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core import reading
from perdure.core.machine import Machine
from perdure.errors import ReadOnlyError, TurnLimitError, UpdateRejected, ValidatorActedError
from perdure.runtime.handlers import encode_failure, unknown_handler
from perdure.runtime.interface import INTERFACE, interface
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.storage.effects import SetUpdate, UpdateState

T = TypeVar("T")


def look(turns: Turns, machine: Machine, guarded: bool, call: Callable[[], T]) -> T:
    """Call something in a run's context that only looks.

    Raises:
        ReadOnlyError: it tried to act. The machine's state is void.
        TurnLimitError: it ran longer than the turn limit.
    """
    try:
        with turns.of(machine, guarded):
            return reading.look(machine, call)
    except TurnInterrupt:
        turns.over()
        reading.done_looking(machine)
        msg = f"a query handler or validator of run {machine.run_id!r} ran on for longer than turn_limit; {turns.place}"
        raise TurnLimitError(msg) from None
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - an exit, say: it mustn't end code that only asks
        msg = f"a query handler or validator of run {machine.run_id!r} left with {type(error).__name__}: {error}"
        raise ReadOnlyError(msg) from None
    finally:
        machine.loop.interrupted = False


def answer(machine: Machine, name: str, input: bytes) -> tuple[bytes, Any]:
    """Ask a query handler: the encoded answer, and the same decoded."""
    if name == INTERFACE:
        return interface(machine)
    queries = machine.handlers.queries if machine.handlers is not None else {}
    handler = queries.get(name)
    if handler is None:
        raise unknown_handler(machine.run_id, "query", name, queries)
    return handler.answer(input)


def refusal(
    turns: Turns, machine: Machine, guarded: bool, event: ev.UpdateAccepted
) -> tuple[SetUpdate | None, bool]:
    """Whether an update is to be rejected, and with which answer; and whether the machine's state is void."""
    updates = machine.handlers.updates if machine.handlers is not None else {}
    handler = updates.get(event.name)
    if handler is None:
        return _rejected(event, unknown_handler(machine.run_id, "update", event.name, updates)), False
    try:
        look(turns, machine, guarded, lambda: handler.admit(event.input))
    except ReadOnlyError as error:
        return _rejected(event, ValidatorActedError(str(error))), True
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a validator raises means no
        return _rejected(event, UpdateRejected(str(error) or type(error).__name__)), False
    return None, False


def _rejected(event: ev.UpdateAccepted, error: Exception) -> SetUpdate:
    return SetUpdate(event.update, UpdateState.REJECTED, encode_failure(failure_of(error)))
