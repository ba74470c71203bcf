"""What an entity does after each call: its code begins again, from the checkpoint that the call has left."""

from __future__ import annotations

from typing import Any, Protocol

from perdure.codec.failures import step_exception
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.entities import begun_again
from perdure.runtime.feeding import feed
from perdure.runtime.host import Host
from perdure.runtime.machines import let_go
from perdure.runtime.outcomes import child_error
from perdure.runtime.work import Work


class Run(Protocol):
    """The entity's driver."""

    gone: bool
    machine: Machine
    definition: WorkflowDefinition

    @property
    def host(self) -> Host[Any]: ...
    @property
    def work(self) -> Work: ...
    def block(self, error: Exception, where: str = "") -> None: ...
    def intruded(self, error: Exception) -> None: ...


def renew(run: Run, checkpoint: ev.Checkpointed) -> None:
    """Throw the machine away and begin where a replay would begin. What the call left running ends with it."""
    old = run.machine
    assert old.started is not None
    run.work.drop()
    let_go(old, run.host.turns)
    run.machine = Machine(
        old.known_as, old.workflow, run.definition.begin, step_exception, child_error, old.max_payload
    )
    run.machine.supervisor = run
    feed(run, begun_again(old.started, checkpoint), old.started.at)
    feed(run, checkpoint)
