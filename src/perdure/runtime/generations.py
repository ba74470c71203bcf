"""Makes the next generation of a run: what `continue_as` comes to."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.runtime.definitions import stays_pinned
from perdure.runtime.host import Host
from perdure.runtime.runs import SEED_BYTES, run_fingerprint
from perdure.storage.chance import chance
from perdure.storage.records import MailKind, NewMail, NewRun, Successor


class Run(Protocol):
    """The driver of the run that goes on."""

    id: str
    machine: Machine
    queue: str
    parent_op: str | None

    @property
    def host(self) -> Host[Any]: ...


def successor(run: Run, last: ev.RunContinued) -> Successor:
    """The generation that follows a run whose code has ended with `continue_as`; driven here, if it can be."""
    machine, queue = run.machine, run.queue
    started = machine.started
    assert started is not None
    generation = started.generation + 1
    observer = run.host.observer
    donor = None if started.donor is None else started.donor.handed_on(last.at)
    first = msgspec.structs.replace(
        started,
        at=last.at,
        workflow=last.workflow,
        input=last.input,
        seed=chance.secret(SEED_BYTES),
        generation=generation,
        keys=generation,
        keys_of=None,
        donor=donor,
        trace=None if observer is None else observer.carried((run.id, started), link=True),
        heard=started.heard if machine.listening is None else machine.listening.heard(),
    )
    new = NewRun(
        id=run.id,
        workflow=last.workflow,
        fingerprint=run_fingerprint(last.workflow, last.input),
        first_event=encode_event(first),
        queue=queue,
        created_at=last.at,
        wake_at=last.at,
        owner=run.host.owner_of(last.workflow, queue) if donor is None else None,
        parent_op=run.parent_op,
        mail=[NewMail(encode_event(event), _kind(event)) for event in machine.unheard()],
        generation=generation,
        pinned=stays_pinned(last.workflow),  # to the version that begins this generation
    )
    return Successor(new)


def _kind(event: ev.Event) -> MailKind:
    return MailKind.MESSAGE if isinstance(event, ev.MessageReceived) else MailKind.CONTROL
