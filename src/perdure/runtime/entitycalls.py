"""Calls of entities: from outside of runs, and from the steps that workflows call them by.

A call is an update of the entity's run, which is started by the first call. A read needs no run: it takes the
newest state from the store, and calls the method here.
"""

from __future__ import annotations

import inspect
from typing import Any

from perdure.codec.arguments import Arguments
from perdure.codec.canonical import encode_canonical
from perdure.codec.values import ValueCodec
from perdure.core.status import Status
from perdure.errors import ReadOnlyError, RunEndedError, UnknownRunError
from perdure.runtime.entities import EntityDefinition, last_state
from perdure.runtime.runs import new_run
from perdure.runtime.settings import Settings
from perdure.runtime.soundness import refuse_damaged
from perdure.runtime.updatecalls import UpdateCalls
from perdure.storage.protocol import Store
from perdure.storage.scoping.records import run_within


class EntityCalls:
    """Calls any entity in a store.

    Args:
        updates: calls updates of any run.
    """

    def __init__(self, store: Store, updates: UpdateCalls, settings: Settings) -> None:
        self._store = store
        self._updates = updates
        self._settings = settings

    async def call(
        self,
        definition: EntityDefinition,
        key: str,
        method: str,
        input: bytes,
        *,
        call_key: str | None = None,
        timeout: float | None = None,
        within: str = "",
    ) -> bytes:
        """Call a method that may change the state, and wait for its end. Returns the encoded result.

        Args:
            within: what the stored ids begin with in the namespace of the entity.

        Raises:
            Exception: what the method raised; and as UpdateCalls.call.
        """
        run_id = within + definition.run_id(key)
        try:
            return await self._updates.call(run_id, method, input, key=call_key, timeout=timeout)
        except UnknownRunError as error:
            if error.run_id != run_id:
                raise
        no_keywords: dict[str, Any] = {}
        run = new_run(
            id=definition.run_id(key),
            workflow=definition.name,
            input=encode_canonical(((key,), no_keywords)),
            queue=self._settings.queues[0],
            now=self._settings.clock(),
        )
        await self._store.create([run_within(run, within)])
        return await self._updates.call(run_id, method, input, key=call_key, timeout=timeout)

    async def read(
        self,
        definition: EntityDefinition,
        key: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        within: str = "",
    ) -> Any:
        """Call a method that only looks, on the newest state that is written down.

        Raises:
            ReadOnlyError: it is to be awaited, so it doesn't only look.
            RunEndedError: the entity was cancelled or terminated.
            Exception: what it raised.
        """
        entity = definition.instance(key, await self._state(definition, key, within))
        function = definition.reads[method].__get__(entity)
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            if (close := getattr(value, "close", None)) is not None:
                close()
            msg = (
                f"{definition.name}.{method} is marked with @perdure.read and returned something to be awaited: a "
                "method that only looks is a plain function. Without the mark it is a call, which may act"
            )
            raise ReadOnlyError(msg)
        return result_of(definition, method).record(value)[1]

    async def _state(self, definition: EntityDefinition, key: str, within: str) -> bytes:
        run_id = within + definition.run_id(key)
        (row,) = await self._store.get([run_id])
        if row is None:
            return definition.fresh()
        if Status(row.status).final:
            raise RunEndedError(f"entity {run_id!r} was ended ({row.status}), and has no state any more")
        (history,) = await self._store.load([row.run])
        refuse_damaged(run_id, history)
        return last_state(history) or definition.fresh()


def arguments_of(definition: EntityDefinition, method: str) -> Arguments:
    """Carries a method's arguments, without the object it is called on."""
    function = (definition.calls.get(method) or definition.reads[method]).__get__(object())
    return Arguments(function, f"{definition.name}.{method}")


def result_of(definition: EntityDefinition, method: str) -> ValueCodec[Any]:
    """Carries a method's result."""
    function = definition.calls.get(method) or definition.reads[method]
    annotation = inspect.signature(function).return_annotation
    return ValueCodec[Any](annotation, f"result of {definition.name}.{method}", owner=function)
