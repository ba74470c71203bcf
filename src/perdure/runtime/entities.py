"""Entities: objects with a key whose state is written down after every call.

An entity is a run whose workflow does nothing but take calls, which are updates (see core/handlers.py). They are
admitted one at a time. When one has ended, its answer and the new state, a Checkpointed record, are written in
one append; then the run's machine is thrown away, and a new one begins from the first event and that record.
That is also all that a replay reads. So a call can't tell whether its entity has been in memory for long or came
back just now, and nothing that calls leave behind adds up.

Everything here knows a class and a key; who may call from where is told in entitycalls.py.
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from perdure.codec.arguments import Arguments
from perdure.codec.events import decode_event, encode_event
from perdure.codec.values import ValueCodec, check_size
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.errors import ConfigurationError
from perdure.runtime.definitions import WorkflowDefinition, durable_name, register_workflow
from perdure.runtime.handlers import Update
from perdure.storage.effects import KeepCheckpoint
from perdure.storage.records import History

#: The attribute by which `@perdure.read` marks a method.
READ_MARK = "__perdure_read__"


class EntityDefinition:
    """A decorated class.

    Attributes:
        name: what runs of it call their workflow.
        calls: the methods that may change the state, by name.
        reads: those that only look.
    """

    def __init__(self, cls: type[Any], name: str | None) -> None:
        self.cls = cls
        self.name = durable_name(cls, name)
        self.calls: dict[str, Callable[..., Any]] = {}
        self.reads: dict[str, Callable[..., Any]] = {}
        for attribute, value in inspect.getmembers(cls, inspect.isfunction):
            if not attribute.startswith("_"):
                (self.reads if getattr(value, READ_MARK, False) else self.calls)[attribute] = value
        annotation = _annotation(cls)
        if annotation is None or not self.calls:
            what = "no `state: ...` annotation" if annotation is None else "no method that could be called"
            msg = (
                f"@entity class {cls.__qualname__} has {what}: an entity is a class with an annotated `state`, such as "
                "`state: CartState`, and methods that change it"
            )
            raise ConfigurationError(msg)
        owner = next(iter(self.calls.values()))
        self.state = ValueCodec[Any](annotation, f"state of entity {self.name}", owner=owner)

    def fresh(self) -> bytes:
        """The encoded state of an entity that has had no call yet.

        Raises:
            ConfigurationError: the state's type can't be made from nothing.
        """
        kind = self.state.resolved()
        try:
            return self.state.encode((typing.get_origin(kind) or kind)())
        except TypeError as error:
            msg = (
                f"the state of entity {self.name} can't begin: {getattr(kind, '__name__', kind)}() raises {error}. "
                "Give all of its fields a default"
            )
            raise ConfigurationError(msg) from error

    def instance(self, key: str, state: bytes) -> Any:
        """An object of the class, with this state."""
        made = self.cls()
        made.key = key
        made.state = self.state.decode(state)
        return made

    def run_id(self, key: str) -> str:
        """The id of the run that is the entity with this key."""
        return f"{self.name}/{key}"


def _annotation(cls: type[Any]) -> Any:
    for base in cls.__mro__:
        found = inspect.get_annotations(base).get("state")
        if found is not None:
            return found
    return None


class Entity:
    """An entity in memory: it takes calls, and keeps its state between them.

    Attributes:
        object: what the methods are called on.
        saved: its state when the last call had ended, encoded; None before the first one.
    """

    __slots__ = ("_machine", "definition", "key", "object", "saved")

    def __init__(self, definition: EntityDefinition, key: str, machine: Machine) -> None:
        self.definition = definition
        self._machine = machine
        self.key = key
        self.saved: bytes | None = None
        self.object: Any = None
        for name, method in definition.calls.items():
            machine.handle_updates(name, EntityCall(self, method, machine.max_payload))
        assert machine.handlers is not None
        machine.handlers.keeper = self

    def restore(self, event: ev.Checkpointed) -> None:
        """Begin from a checkpoint."""
        self.saved = event.state

    def ready(self) -> Any:
        """What a method is called on: an object with the state as the last call has left it."""
        if self.saved is None:
            self.saved = self.definition.fresh()
        self.object = self.definition.instance(self.key, self.saved)
        return self.object

    def keep(self) -> None:
        """A call has ended well: this is the state from now on.

        Raises:
            NotSerializableError: it can't be recorded.
        """
        data, _ = self.definition.state.record(self.object.state)
        check_size(data, self._machine.max_payload, self.definition.state.where)
        self.saved = data

    def sum_up(self, number: int, at: float) -> tuple[ev.Checkpointed, Sequence[KeepCheckpoint]]:
        """The record of all that has happened up to the end of a call."""
        started = self._machine.started
        assert started is not None
        assert self.saved is not None
        seed = blake2b(started.seed, digest_size=32, person=b"perdure call").digest()
        record = ev.Checkpointed(at=at, op=f"checkpoint:{number}", state=self.saved, seed=seed)
        return record, (KeepCheckpoint(),)


class EntityCall(Update):
    """A method of an entity, as the handler of updates."""

    __slots__ = ("_entity", "_method")

    def __init__(self, entity: Entity, method: Callable[..., Any], max_payload: int) -> None:
        super().__init__(
            method.__get__(entity), None, max_payload
        )  # bound, so that its first parameter is gone
        self._entity = entity
        self._method = method

    def prepare(self, input: bytes) -> Callable[[], Any]:
        args, kwargs = self.read(input)
        return lambda: self._called(args, kwargs)

    async def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method; only if all of it goes well the state is another one afterwards."""
        value = self._method(self._entity.ready(), *args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        self.record(value)
        self._entity.keep()
        return value


def define_entity(
    cls: type[Any], name: str | None, machine_of_the_run: Callable[[], Machine | None]
) -> EntityDefinition:
    """Make and register an entity: its runs' workflow is the class's name.

    Raises:
        ConfigurationError: it is no class with a state and methods.
        DuplicateNameError: another workflow or entity has this name.
    """
    definition = EntityDefinition(cls, name)

    async def main(key: str) -> None:
        machine = machine_of_the_run()
        assert machine is not None, "an entity is no workflow to be called"
        entity = Entity(definition, key, machine)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            del entity

    main.__module__, main.__qualname__, main.__name__ = cls.__module__, cls.__qualname__, cls.__name__
    register_workflow(
        WorkflowDefinition(
            name=definition.name,
            function=main,
            arguments=Arguments(main, f"entity {definition.name}"),
            result=ValueCodec[Any](None, f"result of entity {definition.name}"),
            guard=True,
            entity=True,
        )
    )
    return definition


# -- replaying ------------------------------------------------------------------------------------------


def from_checkpoint(definition: WorkflowDefinition, history: History) -> History:
    """The part of an entity's history that a replay reads; other histories as they are."""
    if not definition.entity:
        return history
    for place in range(len(history.events) - 1, 0, -1):
        event = decode_event(history.events[place])
        if isinstance(event, ev.Checkpointed):
            first = decode_event(history.events[0])
            assert isinstance(first, ev.RunStarted)
            begun = encode_event(begun_again(first, event))
            return msgspec.structs.replace(history, events=[begun, *history.events[place:]])
    return history


def begun_again(first: ev.RunStarted, checkpoint: ev.Checkpointed) -> ev.RunStarted:
    """The first event of what begins at a checkpoint: with other random numbers than what went before."""
    return msgspec.structs.replace(first, seed=checkpoint.seed)


def last_state(history: History) -> bytes | None:
    """The newest state in a history, None if no call has ended yet."""
    for data in reversed(history.events):
        event = decode_event(data)
        if isinstance(event, ev.Checkpointed):
            return event.state
    return None
