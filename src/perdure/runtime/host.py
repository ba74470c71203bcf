"""What passes between a driver and the worker it lives in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from perdure.core import events as ev
from perdure.core.bounds import Bounds
from perdure.core.commands import AwaitCallback, Operation, RunStep, SendMessage, StartChild
from perdure.core.status import Status
from perdure.runtime.journal import Journal
from perdure.runtime.observing import Observer
from perdure.runtime.steps import StepExecutor
from perdure.runtime.timers import Timers
from perdure.runtime.turns import Turns
from perdure.storage.effects import SetUpdate
from perdure.storage.records import BlockCode, NewRun

T = TypeVar("T")
D_contra = TypeVar("D_contra", contravariant=True)


class Handover(msgspec.Struct, gc=False):
    """How a driver gives its run up: in which state, and when it needs a driver again."""

    status: Status
    wake_at: float | None = None
    reason: str | None = None
    code: BlockCode | None = None
    sent: bool = False


class Host(Protocol[D_contra]):
    """What a driver needs of its worker."""

    clock: Callable[[], float]
    journal: Journal
    steps: StepExecutor
    timers: Timers
    turns: Turns
    max_payload: int
    bounds: Bounds
    code: str
    observer: Observer | None

    @property
    def name(self) -> str:
        """The worker's, as in listings."""
        ...

    def call_from_thread(self, call: Callable[..., None], *args: Any) -> None: ...
    def watch(self, driver: D_contra, operation: Operation) -> None: ...
    def child_run(self, driver: D_contra, operation: StartChild) -> NewRun: ...
    def owner_of(self, workflow: str, queue: str) -> int | None: ...
    def continued(self, following: NewRun, run: int, epoch: int) -> None: ...
    def child_created(self, child: NewRun, run: int, epoch: int) -> None: ...
    def check_children(self, driver: D_contra, children: Sequence[StartChild]) -> None: ...
    def check_errands(self, driver: D_contra, steps: Sequence[RunStep]) -> None: ...
    def callback_due(self, driver: D_contra, operation: AwaitCallback) -> None: ...
    def send_message(self, driver: D_contra, operation: SendMessage) -> None: ...
    def changed(self) -> None: ...
    def distribute(self) -> None: ...
    def cancel_run(self, driver: D_contra, operation: StartChild, reason: str) -> None: ...
    def streams_grew(self, driver: D_contra) -> None: ...
    def ended(self, driver: D_contra, status: Status, event: ev.Final) -> None: ...
    def answered(self, driver: D_contra, answers: Sequence[SetUpdate]) -> None: ...
    def handed_back(self, driver: D_contra) -> None: ...
    def lost(self, driver: D_contra, why: str) -> None: ...
    def blocked(self, driver: D_contra, reason: str) -> None: ...


def appended(items: list[T] | None, item: T) -> list[T]:
    """A list that is made when it is first needed: most runs need none of theirs most of the time."""
    if items is None:
        return [item]
    items.append(item)
    return items
