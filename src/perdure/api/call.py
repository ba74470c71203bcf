"""A call of a step or workflow: typed by its function's signature, and not started yet.

Like a coroutine, a Call does nothing until it is awaited, given to `create_task`, or handed to an engine.
What awaiting it means depends on where that happens:

- inside a run it is durable: a step, or a child run;
- inside a step it is an error: steps are leaves;
- anywhere else it runs the function as it stands, so that unit tests need no engine.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from abc import abstractmethod
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec

from perdure.codec.changing import Misplaced
from perdure.codec.depth import SHALLOW
from perdure.codec.values import check_size
from perdure.core.commands import StartChild
from perdure.core.continuing import ContinueAs
from perdure.core.donor import Donor
from perdure.core.edits import names
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.core.schedulable import Schedulable
from perdure.core.scope import keyed_operation
from perdure.errors import DurableCallInStepError, NotSerializableError, UndecodableError
from perdure.runtime.before import Before
from perdure.runtime.definitions import StepDefinition, StepOptions, WorkflowDefinition
from perdure.runtime.runs import child_run_id
from perdure.runtime.stepcontext import current_step
from perdure.runtime.withholding import counterfactual

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


def current_machine() -> Machine | None:
    """The machine of the run whose code is executing on this thread, None outside of workflow code."""
    loop = _get_running_loop()
    return loop.owner if isinstance(loop, WorkflowLoop) else None


class Call(Schedulable, Coroutine[Any, Any, R_co], Generic[R_co]):
    """A step or workflow with its arguments. Await it, or hand it to an engine."""

    __slots__ = ("_iterator", "_op_id", "_refused", "_used", "args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self._used = False
        self._op_id: str | None = None
        self._iterator: Generator[Any, Any, R_co] | None = None
        self._refused: Callable[[Any], None] | None = None

    # -- as an awaitable ----------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, R_co]:
        if self._iterator is not None:
            msg = f"cannot reuse already awaited {self!r}"
            raise RuntimeError(msg)
        self._used = True
        loop = _get_running_loop()
        if isinstance(loop, WorkflowLoop):
            op_id = self._op_id or self._next_id(loop)
            self._iterator = self._in_run(loop.owner, op_id)
        elif (step := current_step.get()) is not None:
            msg = (
                f"step {step.step_id!r} of run {step.run_id!r} awaited {self!r}: a step is a leaf, whose inner "
                "calls couldn't be recorded. Await both from the workflow, one after the other; or call the plain "
                f"function, {self.name.rpartition('.')[2]}.function(...)"
            )
            raise DurableCallInStepError(msg)
        else:
            self._iterator = self._plainly().__await__()
        return self._iterator

    def adopt(self, loop: WorkflowLoop) -> tuple[str, Coroutine[Any, Any, R_co]]:
        """Called by `create_task` inside a run: take the place under the task that asked."""
        self._used = True
        self._op_id = self._next_id(loop)
        return self._op_id, self._as_coroutine()

    async def _as_coroutine(self) -> R_co:
        return await self

    # -- as a coroutine -----------------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        iterator = self._iterator or self.__await__()
        return iterator.send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        if self._iterator is None:
            self._used = True
            raise typ
        if isinstance(typ, BaseException):
            return self._iterator.throw(typ)
        return self._iterator.throw(typ, val, tb)  # pragma: no cover - the old three-argument form

    def close(self) -> None:
        self._used = True
        if self._iterator is not None:
            self._iterator.close()

    def __del__(self) -> None:
        if not self._used:
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args] + [
            f"{name}={value!r}" for name, value in self.kwargs.items()
        ]
        text = ", ".join(given)
        return f"<call {self.name}({text if len(text) < 100 else text[:100] + '...'})>"

    def mark_used(self) -> None:
        """It was handed to an engine; not awaiting it is fine."""
        self._used = True

    def hold(self, refused: Callable[[Any], None]) -> None:
        """Let no cancellation end the wait for it inside a run; the messages of those that come go there."""
        self._refused = refused

    # -- kinds of calls -----------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The durable name of what is called."""

    @abstractmethod
    def _next_id(self, loop: WorkflowLoop) -> str: ...

    @abstractmethod
    def _in_run(self, machine: Machine, op_id: str) -> Generator[Any, Any, R_co]: ...

    @abstractmethod
    def _plainly(self) -> Coroutine[Any, Any, R_co]: ...


class StepCall(Call[R_co]):
    """A step with its arguments and options; `step_call` makes it.

    Attributes:
        stubbed: it isn't the step itself but what stands in for it.
    """

    stubbed = False

    __slots__ = ("_copies", "definition", "options")

    _copies: tuple[tuple[Any, ...], dict[str, Any]] | None  #: of the arguments, until they are taken
    definition: StepDefinition
    options: StepOptions

    @property
    def name(self) -> str:
        return self.definition.name

    def arguments(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the arguments, so that what a step does to them isn't seen by the workflow."""
        copies, self._copies = self._copies, None
        return self.definition.arguments.decode(input) if copies is None else copies

    def _next_id(self, loop: WorkflowLoop) -> str:
        if self.options.key is not None:
            return keyed_operation(self.definition.name, self.options.key)
        return loop.scope().operation(self.definition.name)

    @property
    def takes_edits(self) -> bool:
        """Whether it can be called with other arguments than these."""
        return True

    def _in_run(self, machine: Machine, op_id: str) -> Generator[Any, Any, R_co]:
        definition = self.definition
        unfit = None
        try:
            if machine.replaying:  # the checks were passed, or their failure is in the history
                data = definition.arguments.encode(self.args, self.kwargs)
            else:
                data, self._copies = definition.arguments.record(self.args, self.kwargs)
                if len(data) > SHALLOW or len(data) > machine.max_payload:
                    check_size(data, machine.max_payload, f"input of step {definition.name}")
        except NotSerializableError as error:
            data, unfit = b"", error
        if machine.started is not None and (donor := machine.started.donor) is not None:
            try:
                edited = self._edited(donor, op_id, data)
            except (Misplaced, UndecodableError) as error:
                edited, unfit = data, _misplaced(op_id, error)
            if edited is not data:
                data, unfit, self._copies = edited, None, None
        if self.options.before is not None and unfit is None:
            return self._after(self.options.before, machine, op_id, data)
        return self._open(machine, op_id, data, unfit)

    def _after(self, what: Before, machine: Machine, op_id: str, data: bytes) -> Generator[Any, Any, R_co]:
        """Ask for the step once that is done which comes before it."""
        given = yield from what.before(self, machine, op_id, data)
        if given != data:
            self._copies = None
        return (yield from self._open(machine, op_id, given, None))

    def _open(
        self, machine: Machine, op_id: str, data: bytes, unfit: NotSerializableError | None
    ) -> Generator[Any, Any, R_co]:
        definition = self.definition
        decode = definition.result.decode
        if self._refused is None and self.options.on_cancel == "wait":
            wait = machine.step_to_its_end(op_id, definition.name, self, data, decode, unfit)
        else:
            wait = machine.step(op_id, definition.name, self, data, decode, unfit, self._refused)
        if self.options.queue is not None and unfit is None:
            machine.send_elsewhere(op_id)
        return wait

    def _edited(self, donor: Donor, op_id: str, data: bytes) -> bytes:
        """The input with which a fork calls it: the same object, if nothing is changed."""
        data = donor.inputs.get(op_id, data)
        for edit in donor.edits:
            if edit.input is not None and names(edit.steps, op_id):
                data = edit.input
            elif (edit.parts or edit.text) and data and names(edit.steps, op_id):
                data = self.definition.arguments.change(data, edit.parts, edit.text)
        return data

    async def _plainly(self) -> R_co:
        value = self.definition.run(*self.args, **self.kwargs)
        if inspect.isawaitable(value):
            value = await value
        return value  # type: ignore[no-any-return]


_bare: Callable[[type[StepCall[Any]]], StepCall[Any]] = object.__new__


def step_call(
    definition: StepDefinition,
    options: StepOptions,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: type[StepCall[Any]] = StepCall,
) -> StepCall[Any]:
    """A call of a step, of this class. Raises TypeError if the arguments don't fit.

    In `StepCall.__init__` the same would take 1.6 times as long, a hundredth of a step's CPU: Python comes there by way
    of C.
    """
    if kwargs:
        definition.arguments.fits(*args, **kwargs)
    else:
        definition.arguments.fits(*args)
    call = _bare(kind)
    call.args = args
    call.kwargs = kwargs
    call._used = False
    call._op_id = call._iterator = call._refused = call._copies = None
    call.definition = definition
    call.options = options
    return call


def _misplaced(op_id: str, error: Exception) -> NotSerializableError:
    return NotSerializableError(
        f"an edit of the fork doesn't fit step {op_id!r}: {error}. Fork it with another one"
    )


class ChildOptions(msgspec.Struct, frozen=True):
    """How a child run is started."""

    queue: str | None = None
    key: str | None = None
    priority: int = 0


class WorkflowCall(Call[R_co]):
    """A workflow with its arguments."""

    __slots__ = ("definition",)

    def __init__(self, definition: WorkflowDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._used = True
        definition.arguments.fits(*args, **kwargs)
        super().__init__(args, kwargs)
        self.definition = definition

    @property
    def name(self) -> str:
        return self.definition.name

    def input(self, max_payload: int) -> bytes:
        """The encoded arguments.

        Raises:
            NotSerializableError, PayloadTooLargeError: they can't be recorded.
        """
        data, _ = self.definition.arguments.record(self.args, self.kwargs)
        check_size(data, max_payload, f"input of workflow {self.definition.name}")
        return data

    def start_in(
        self,
        machine: Machine,
        op_id: str,
        *,
        run_id: str | None = None,
        options: ChildOptions = ChildOptions(),  # noqa: B008 - frozen
        on_parent_close: str = "cancel",
        announce: bool = False,
    ) -> StartChild:
        """Ask the machine for a child run of this call."""
        generation = 1 if machine.started is None else machine.started.generation
        if run_id is not None and counterfactual(machine) is not None:  # a chosen id is that of the real one
            run_id = child_run_id(machine.run_id, run_id, generation)
        return machine.child(
            op_id,
            run_id=run_id or child_run_id(machine.run_id, op_id, generation),
            workflow=self.definition.name,
            call=options,
            input=self.input(machine.max_payload),
            on_parent_close=on_parent_close,
            decode=self.definition.result.decode,
            announce=announce,
            refused=self._refused,
        )

    def _next_id(self, loop: WorkflowLoop) -> str:
        return loop.scope().operation(self.definition.name)

    def _in_run(self, machine: Machine, op_id: str) -> Generator[Any, Any, R_co]:
        return machine.wait_child(self.start_in(machine, op_id))

    async def _plainly(self) -> R_co:
        call: WorkflowCall[Any] = self
        while True:
            try:
                return await call.definition.function(*call.args, **call.kwargs)  # type: ignore[no-any-return]
            except ContinueAs as onward:
                call = onward.call


def plain_task(call: Call[R]) -> asyncio.Task[R]:
    """Outside of runs: the call as an ordinary task."""
    return asyncio.get_running_loop().create_task(call)
