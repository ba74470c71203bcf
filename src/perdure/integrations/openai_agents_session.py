"""Sessions of the Agents SDK that are durable: what was said stays said, and nothing is added twice.

`DurableSession` keeps its items in an entity of perdure's own: each change is one call of it, which happens exactly
once, whatever crashes. Any other session is used by steps. A step that adds items may be executed again after a crash;
it looks first at whether they are there already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from agents.memory import SessionSettings

from perdure.api.entities import entity, entity_class, read
from perdure.api.inline import in_run, inline_step
from perdure.errors import UsageError
from perdure.integrations.data import step_name

if TYPE_CHECKING:
    from perdure.api.engine import Engine

_ALL = 1_000_000  # items; more than any session has


@dataclass
class _Said:
    items: list[Any] = field(default_factory=list[Any])


class _Conversation:
    """The items of one session."""

    state: _Said

    async def add(self, items: list[Any]) -> None:
        self.state.items.extend(items)

    async def pop(self) -> Any:
        return self.state.items.pop() if self.state.items else None

    async def clear(self) -> None:
        self.state.items.clear()

    @read
    def items(self, limit: int | None = None) -> list[Any]:
        return self.state.items if limit is None else self.state.items[-limit:] if limit > 0 else []


Conversation = entity_class(_Conversation, "perdure.openai_agents.session")


class DurableSession:
    """A conversation that is kept in perdure's database, for `DurableRunner.run(..., session=...)`.

    All runs that use the same id share it, also at the same time: each batch of items is added once, and whole.

    Args:
        session_id: the conversation's id.
        session_settings: the SDK's, such as how many items a model gets.
        engine: for use outside of runs, where there is no engine around.

    Example:
        >>> session = DurableSession("chat-7")
        >>> result = await DurableRunner.run(agent, "hello again", session=session)  # doctest: +SKIP
    """

    def __init__(
        self,
        session_id: str,
        *,
        session_settings: SessionSettings | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._engine = engine

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The newest `limit` items, or all, in the order in which they were added."""
        limit = self.session_settings.limit if limit is None else limit
        return cast("list[Any]", await self._conversation().items(limit))

    async def add_items(self, items: list[Any]) -> None:
        """Add items. In a run this happens exactly once."""
        if items:
            await self._conversation().add([_plain(item) for item in items])

    async def pop_item(self) -> Any:
        """Remove the newest item and return it, None if there is none."""
        return await self._conversation().pop()

    async def clear_session(self) -> None:
        """Remove all items."""
        await self._conversation().clear()

    def _conversation(self) -> Any:
        if in_run():
            return entity(Conversation, self.session_id)
        if self._engine is None:
            msg = (
                f"DurableSession({self.session_id!r}) is used outside of workflow code: give it the engine, as in "
                "DurableSession(id, engine=engine)"
            )
            raise UsageError(msg)
        return self._engine.entity(Conversation, self.session_id)


class SteppedSession:
    """Another session, used from workflow code by steps.

    Args:
        inner: the session.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.session_id: str = inner.session_id
        self.session_settings: SessionSettings | None = getattr(inner, "session_settings", None)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """See `agents.Session`."""

        async def get(_: Any) -> list[Any]:
            return [_plain(item) for item in await self.inner.get_items(limit)]

        found: list[Any] = await self._step("get_items", get, {"limit": limit}, list[Any])
        return found

    async def add_items(self, items: list[Any]) -> None:
        """See `agents.Session`."""

        async def count(_: Any) -> int:
            return len(await self.inner.get_items(_ALL))

        async def add(given: Any) -> None:
            after, added = given["after"], given["items"]
            there = [_plain(item) for item in await self.inner.get_items(_ALL)]
            if there[after : after + len(added)] != added:
                await self.inner.add_items(items)

        if items:
            before = await self._step("count", count, None, int)
            given = {"after": before, "items": [_plain(item) for item in items]}
            await self._step("add_items", add, given, None)

    async def pop_item(self) -> Any:
        """See `agents.Session`."""

        async def pop(_: Any) -> Any:
            item = await self.inner.pop_item()
            return None if item is None else _plain(item)

        return await self._step("pop_item", pop, None, Any)

    async def clear_session(self) -> None:
        """See `agents.Session`."""

        async def clear(_: Any) -> None:
            await self.inner.clear_session()

        await self._step("clear_session", clear, None, None)

    async def _step(self, what: str, body: Any, given: Any, result: Any) -> Any:
        if not in_run():
            return await body(given)
        return await inline_step(step_name("session", what), body, given=given, result=result)


def durable_session(session: Any) -> Any:
    """The session as workflow code can use it."""
    return (
        session
        if session is None or isinstance(session, DurableSession | SteppedSession)
        else SteppedSession(session)
    )


def _plain(item: Any) -> Any:
    """An item as plain data."""
    dump = getattr(item, "model_dump", None)
    return dump(mode="json", exclude_unset=True, by_alias=True) if callable(dump) else item
