"""Lets a run's code go on with one event, and blocks the run if that can't be."""

from __future__ import annotations

import traceback
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.errors import NonDeterminismError, PerdureError, TurnLimitError, UndecodableError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.host import Host
from perdure.runtime.turns import TurnInterrupt


class Run(Protocol):
    """The run's driver."""

    gone: bool
    machine: Machine
    definition: WorkflowDefinition

    @property
    def host(self) -> Host[Any]: ...
    def block(self, error: Exception, where: str = "") -> None: ...


def feed(run: Run, event: ev.Event, value: Any = UNSET) -> None:
    """Feed an event to a run that is still driven here.

    Args:
        value: the decoded result, if it is at hand; of the first event, the time of the first activation.
    """
    if run.gone:
        return
    machine, turns = run.machine, run.host.turns
    try:
        with turns.of(machine, run.definition.guard):
            if isinstance(event, ev.RunStarted):
                machine.begin(event, value)
            elif value is UNSET:
                machine.feed(event)
            else:
                machine.feed(event, value)
    except TurnInterrupt:
        turns.over()
        run.block(machine.turn_limit_error(), turns.place)
    except TurnLimitError as error:
        run.block(error, turns.place)
    except (NonDeterminismError, UndecodableError) as error:
        run.block(error)
    except Exception:  # noqa: BLE001 - the engine's own: no other run may suffer from it
        run.block(PerdureError(f"the engine itself failed on this run:\n{traceback.format_exc()}"))
