"""What happens to a run whose history has become long, and then too long; and to one that gets more than it reads.

A run that is full is blocked before anything more that its code asks for is begun. What was begun before may end, and
is recorded: nothing is lost, and nothing is written in part. Once it is cancelled it has some room for its own cleaning
up; terminating needs none. A run that ends, or goes on with `continue_as`, is never stopped.

Of each name so many messages are taken in that the code hasn't received. The others wait in the inbox, where senders
are refused when too many do.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.bounds import RESERVE, UNREAD_MAX, Bounds
from perdure.core.machine import Machine
from perdure.errors import HistoryFullError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.host import Host
from perdure.runtime.work import Work
from perdure.storage.records import Append

logger = logging.getLogger("perdure.driver")


class Long(Protocol):
    """A run with its history."""

    id: str
    seq: int
    size: int
    definition: WorkflowDefinition

    @property
    def host(self) -> Host[Any]: ...


class Run(Long, Protocol):
    """The run's driver."""

    room: tuple[int, int] | None
    machine: Machine
    overflow: dict[str, list[tuple[int, ev.Event]]] | None

    @property
    def work(self) -> Work: ...
    def busy(self) -> bool: ...
    def buffered(self) -> int: ...
    def block(self, error: Exception, where: str = ...) -> None: ...
    def take(self, number: int, event: ev.Event) -> None: ...


def tell_of_length(run: Long, append: Append) -> None:
    """Say once that a history has become long: with this append, its newest one."""
    bounds = run.host.bounds
    if run.definition.entity:
        return
    size = run.size - sum(map(len, append.events))
    if bounds.long(append.expected, size) is None and (told := bounds.long(run.seq, run.size)) is not None:
        logger.warning("run %s goes on, but %s", run.id, told, extra={"run_id": run.id})


def holds_back(run: Run) -> bool:
    """Whether a run can't have what its code asks for, since its history is full. It is blocked when it is at rest."""
    machine, bounds = run.machine, run.host.bounds
    told = bounds.full(run.seq, run.size)
    if told is None or run.definition.entity or machine.ended or not machine.asks():
        return False
    if machine.cleaning_up:
        run.room = run.room or (
            run.seq + _share(bounds.history_events),
            run.size + _share(bounds.history_bytes),
        )
        if run.seq < run.room[0] and run.size < run.room[1]:
            return False
        told += ", and so is what it has for cleaning up once it is cancelled"
    if not run.busy() and not run.work.executing and not run.work.sending:
        run.block(full_error(run.id, told, bounds))
    return True


def full_error(id: str, told: str, bounds: Bounds) -> HistoryFullError:
    """Why a run is blocked whose history is full."""
    return HistoryFullError(
        f"run {id!r} can't go on: {told}. Each replay reads all of it. Let its code end with "
        "perdure.continue_as(...) in time, which goes on with an empty history. This run can be cancelled (it has room "
        "to clean up) or terminated; or resume it with workers whose engines allow for more: "
        f"Engine(bounds=Bounds(history_events={(bounds.history_events or 0) * 2 or None}, ...))"
    )


def keeps_back(run: Run, number: int, event: ev.Event) -> bool:
    """Whether a message stays in the inbox for now, since the code hasn't received so many others of its name."""
    if type(event) is not ev.MessageReceived:
        return False
    if run.overflow is None or event.name not in run.overflow:
        mailbox = run.machine.mailbox
        if run.buffered() + (0 if mailbox is None else mailbox.waiting(event.name)) < UNREAD_MAX:
            return False
        run.overflow = run.overflow or {}
    run.overflow.setdefault(event.name, []).append((number, event))
    return True


def take_more(run: Run) -> None:
    """The code may have received messages: take in as many of those that were kept back."""
    mailbox = run.machine.mailbox
    for name, kept in list((run.overflow or {}).items()):
        room = UNREAD_MAX - (0 if mailbox is None else mailbox.waiting(name))
        if room <= UNREAD_MAX // 10:  # not one by one
            continue
        for number, event in kept[:room]:
            run.take(number, event)
        assert run.overflow is not None
        if len(kept) > room:
            run.overflow[name] = kept[room:]
        else:
            del run.overflow[name]
    run.overflow = run.overflow or None


def _share(limit: int | None) -> int:
    return 1 << 62 if limit is None else max(100, int(limit * RESERVE))
