"""`@entity` and what calls entities: from outside of runs, and durably from workflow code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast, overload

import msgspec

from perdure.api.call import current_machine, step_call
from perdure.api.connection import Connection
from perdure.codec.arguments import Arguments
from perdure.codec.values import check_size
from perdure.core.namespaces import prefix_of
from perdure.core.retry import Retry
from perdure.errors import EngineClosedError, StoreUnavailableError, UndecodableError, UsageError
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.entities import READ_MARK, EntityDefinition, define_entity
from perdure.runtime.entitycalls import arguments_of, result_of
from perdure.runtime.runs import check_run_id
from perdure.runtime.stepcontext import current_attempt, current_step

E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")

#: What the engine could mend by trying again. What the entity's method raises is its answer.
_RETRY = Retry(max_attempts=20, initial=0.1, on=(StoreUnavailableError, EngineClosedError))

_definitions: dict[type[Any], EntityClass] = {}


@overload
def entity(cls: type[E], /) -> type[E]: ...
@overload
def entity(*, name: str | None = None) -> Callable[[type[E]], type[E]]: ...
@overload
def entity(cls: type[E], key: str, /) -> E: ...
def entity(cls: type[Any] | None = None, key: str | None = None, /, *, name: str | None = None) -> Any:
    """Make a class an entity: objects known by a key, whose state is durable and whose calls come one at a time.

    The class annotates `state` with a type that can be made without arguments (a dataclass, msgspec Struct or
    pydantic model whose fields have defaults, a dict, a list) and is never recorded but as JSON. Its public
    methods are calls: async ones may await steps, timers and children, as workflow code may. `self.key` is the
    entity's key. Methods marked with `@perdure.read` only look.

    In workflow code, `perdure.entity(Cart, "user-7")` is the entity with that key, and its methods are awaited as
    steps are: each call happens exactly once. From outside use `engine.entity(Cart, "user-7")`.

    Args:
        name: durable name; `module.qualname` by default. Give one if the class may move.

    Raises:
        ConfigurationError: it is no class with an annotated `state` and methods.
        DuplicateNameError: another entity or workflow has this name.
        UsageError: with a key, and not in workflow code.

    Example:
        >>> @perdure.entity
        ... class Cart:
        ...     state: CartState
        ...
        ...     async def add(self, item: str) -> int:
        ...         self.state.items.append(item)
        ...         return len(self.state.items)
    """
    if cls is None:

        def decorate(decorated: type[Any]) -> type[Any]:
            return entity_class(decorated, name)

        return decorate
    if key is None:
        return entity_class(cls, name)
    if current_machine() is None:
        msg = f"perdure.entity({cls.__name__}, {key!r}) works only in workflow code: use engine.entity(...) elsewhere"
        raise UsageError(msg)
    return Proxy(known_entity(cls), key, None, None, None)


def entity_class(cls: type[E], name: str | None) -> type[E]:
    """Decorate a class."""
    if not isinstance(cls, type):
        msg = f"@entity decorates a class; got {cls!r}"
        raise UsageError(msg)
    _definitions[cls] = EntityClass(define_entity(cls, name, current_machine))
    return cls


def read(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Mark a method of an entity that only looks: it is answered from the newest state that is written down.

    It is a plain function, waits for no call that is going on, and leaves no trace. What it changes is lost. Type
    checkers are told that it is awaited, as it is by all who call it from outside of the class.

    Example:
        >>> @perdure.read
        ... def items(self) -> list[str]:
        ...     return self.state.items
    """
    setattr(method, READ_MARK, True)
    return cast("Callable[P, Coroutine[Any, Any, R]]", method)


class EntityClass:
    """An entity's definition, with what calling its methods needs."""

    def __init__(self, definition: EntityDefinition) -> None:
        self.definition = definition
        self._steps: dict[str, StepDefinition] = {}
        self._arguments: dict[str, Arguments] = {}

    def arguments(self, method: str) -> Arguments:
        if method not in self._arguments:
            self._arguments[method] = arguments_of(self.definition, method)
        return self._arguments[method]

    def step(self, method: str) -> StepDefinition:
        """The step by which workflow code calls a method."""
        if method not in self._steps:
            definition = self.definition

            async def call(key: str, /, *args: Any, **kwargs: Any) -> Any:
                attempt, info = current_attempt.get(), current_step.get()
                assert attempt is not None
                assert info is not None
                entities = attempt.run.host.entities
                within = prefix_of(info.known_as)
                if method in definition.reads:
                    return await entities.read(definition, key, method, args, kwargs, within=within)
                data = self.arguments(method).encode(args, kwargs)
                check_size(data, attempt.run.host.max_payload, f"input of {definition.name}.{method}")
                once = info.idempotency_key()
                answer = await entities.call(definition, key, method, data, call_key=once, within=within)
                return result_of(definition, method).decode(answer)

            name = f"{definition.name}.{method}"
            self._steps[method] = StepDefinition(
                name=name,
                function=call,
                options=StepOptions(retry=_RETRY, effect="read" if method in definition.reads else None),
                arguments=Arguments(call, f"entity call {name}"),
                result=result_of(definition, method),
                is_async=True,
                run=call,
            )
        return self._steps[method]


def known_entity(cls: type[Any]) -> EntityClass:
    found = _definitions.get(cls)
    if found is None:
        msg = f"{cls!r} is no entity: decorate the class with @perdure.entity"
        raise UsageError(msg)
    return found


class Proxy:
    """An entity as its callers see it: it has the methods of its class, all of them to be awaited."""

    def __init__(
        self,
        of: EntityClass,
        key: str,
        connection: Callable[[], Connection] | None,
        call_key: str | None,
        timeout: float | None,
    ) -> None:
        check_run_id(of.definition.run_id(key))
        self._of = of
        self._key = key
        self._connection = connection
        self._call_key = call_key
        self._timeout = timeout

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        definition = self._of.definition
        if name not in definition.calls and name not in definition.reads:
            known = ", ".join(sorted([*definition.calls, *definition.reads]))
            msg = f"entity {definition.name} has no method {name!r} to be called; it has: {known}"
            raise AttributeError(msg)

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            self._of.arguments(name).fits(*args, **kwargs)
            if current_machine() is not None:
                step = self._of.step(name)
                return step_call(step, step.options, (self._key, *args), kwargs)
            return self._call(name, args, kwargs)

        return call

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._connection is not None
        entities = self._connection().inquiry.entities
        definition = self._of.definition
        if method in definition.reads:
            return await entities.read(definition, self._key, method, args, kwargs)
        data = self._of.arguments(method).record(args, kwargs)[0]
        check_size(data, self._connection().max_payload, f"input of {definition.name}.{method}")
        answer = await entities.call(
            definition,
            self._key,
            method,
            data,
            call_key=self._call_key,
            timeout=self._timeout,
        )
        return result_of(definition, method).decode(answer)

    def __repr__(self) -> str:
        return f"<entity {self._of.definition.run_id(self._key)!r}>"


async def call_named(
    connection: Connection,
    type: str,
    key: str,
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    call_key: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Call an entity's method by names and plain data, for those who have no class at hand.

    Raises:
        UsageError: this process has no such class, it has no such method, or the arguments don't fit.
        Exception: as a call of the method itself.
    """
    found = next((each for each in _definitions.values() if each.definition.name == type), None)
    if found is None:
        known = ", ".join(sorted(each.definition.name for each in _definitions.values())) or "none"
        msg = f"this process knows no entity {type!r} (it knows: {known}): load the module with its class"
        raise UsageError(msg)
    if method not in found.definition.calls and method not in found.definition.reads:
        methods = ", ".join(sorted([*found.definition.calls, *found.definition.reads]))
        msg = f"entity {type} has no method {method!r} to be called; it has: {methods}"
        raise UsageError(msg)
    arguments = found.arguments(method)
    try:
        arguments.fits(*args, **kwargs)
        given = arguments.decode(msgspec.json.encode((list(args), kwargs)))
    except (TypeError, UndecodableError) as error:
        msg = f"the arguments don't fit {type}.{method}: {error.__cause__ or error}"
        raise UsageError(msg) from None
    proxy = Proxy(found, key, lambda: connection, call_key, timeout)
    return await proxy._call(method, tuple(given[0]), dict(given[1]))
