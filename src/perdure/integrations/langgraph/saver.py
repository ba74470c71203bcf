"""A checkpointer for LangGraph on Perdure's own database, for graphs inside and outside of runs.

Outside of runs it is a checkpointer like any other. In workflow code each of its calls is a durable step: what was read
is read the same again on replay, and what was written isn't written twice. The names of checkpoints come from the run
there (stable.py), so a write that happens again after a crash takes the place of the first.
"""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from perdure.api.context import random
from perdure.api.engine import Engine
from perdure.api.inline import in_run, inline_step
from perdure.errors import ConfigurationError, UsageError
from perdure.integrations.langgraph import stable
from perdure.integrations.langgraph.asking import (
    getting,
    keep_latest,
    listed_by,
    listing,
    looking,
    remembering,
)
from perdure.integrations.langgraph.homes import Ask, Home, ask, ask_and_wait, home_of
from perdure.integrations.langgraph.rows import Rows, place
from perdure.runtime.definitions import StepOptions
from perdure.storage.checkpoints import Ancestor, CheckpointHead, CheckpointStore, KeptCheckpoint

R = TypeVar("R")

# what steps return; in the class `list` is something else
_CHECKPOINTS = list[KeptCheckpoint]
_PAST = list[Ancestor]


class PerdureSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph's threads in a Perdure database, beside the runs.

    Args:
        where: an engine, whose database it shares while that is entered; or the url of a database, which it opens by
            itself. None is the database of the run that uses it, and outside of runs the environment's PERDURE_URL.
        allow: classes of your own that threads may hold: dataclasses, pydantic models, enums. Only these, messages and
            plain data are built from what was kept; pickle is never used.
        serde: how values become bytes, instead. LangGraph's EncryptedSerializer encrypts them.

    Raises:
        ConfigurationError: the url can't be used, or the serializer would pickle.

    Example:
        >>> async with perdure.Engine("sqlite:///agents.db") as engine:  # doctest: +SKIP
        ...     graph = builder.compile(checkpointer=PerdureSaver(engine))
        ...     await graph.ainvoke({"topic": "tardigrades"}, {"configurable": {"thread_id": "t-1"}})
    """

    def __init__(
        self,
        where: Engine | str | None = None,
        *,
        allow: Sequence[type] = (),
        serde: SerializerProtocol | None = None,
    ) -> None:
        inner = getattr(serde, "serde", serde)  # of an EncryptedSerializer
        if getattr(inner, "pickle_fallback", False):
            msg = (
                "PerdureSaver got a serializer with pickle_fallback: whoever can write to the database could execute "
                "code here then. Leave it out, and name classes of your own with allow=[...]"
            )
            raise ConfigurationError(msg)
        super().__init__(serde=serde or JsonPlusSerializer(allowed_msgpack_modules=list(allow) or None))
        self._home: Home = home_of(where)

    # -- life ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the database, if the saver has opened it. It is opened again when it is used again."""
        self._home.close()

    def __enter__(self) -> PerdureSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> PerdureSaver:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # -- ways to the store --------------------------------------------------------------------------

    @property
    def _rows(self) -> Rows:
        return Rows(self.serde)  # which with_allowlist() replaces in a copy

    async def _ask(self, what: str, given: Mapping[str, Any], result: Any, question: Ask[R]) -> R:
        if not in_run():
            return await ask(self._home, question)

        async def body(_: Any) -> R:
            return await ask(self._home, question)

        return await inline_step(
            f"langgraph.{what}",
            body,
            given=dict(given),
            result=result,
            options=StepOptions(effect=None if result is None else "read"),
        )

    def _wait(self, question: Ask[R]) -> R:
        if in_run():
            msg = "a sync method of PerdureSaver was called in workflow code, which can't wait: use graph.ainvoke()"
            raise UsageError(msg)
        return ask_and_wait(self._home, question)

    # -- reading ------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, namespace = place(config)
        id = get_checkpoint_id(config)
        kept = await self._ask(
            "read_checkpoint",
            {"thread": thread, "namespace": namespace, "id": id},
            KeptCheckpoint | None,
            lambda store: store.get(thread, namespace, id),
        )
        if kept is None:
            return None
        if in_run():
            stable.follow(kept.row.id)
        return self._rows.tuple_of(kept)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, namespace = place(config)
        kept = self._wait(lambda store: store.get(thread, namespace, get_checkpoint_id(config)))
        return None if kept is None else self._rows.tuple_of(kept)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        if in_run():
            everything = await self._ask(
                "list_checkpoints",
                {**listed_by(config, before), "filter": filter, "limit": limit},
                _CHECKPOINTS,
                listing(self._rows, config, filter, before, limit),
            )
            for kept in everything:
                yield self._rows.tuple_of(kept)
            return
        after: CheckpointHead | None = None
        while limit is None or limit > 0:
            heads, after = await ask(self._home, looking(self._rows, config, filter, before, after, limit))
            for head in heads:
                found = await ask(self._home, getting(head))
                if found is not None:
                    yield self._rows.tuple_of(found)
            limit = None if limit is None else limit - len(heads)
            if after is None:
                return

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        for kept in self._wait(listing(self._rows, config, filter, before, limit)):
            yield self._rows.tuple_of(kept)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        if not channels:
            return {}
        thread, namespace = place(config)
        id = get_checkpoint_id(config)
        past = await self._ask(
            "read_past",
            {"thread": thread, "namespace": namespace, "id": id, "channels": list(channels)},
            _PAST,
            remembering(thread, namespace, id, channels),
        )
        return self._rows.history_of(past, channels)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        if not channels:
            return {}
        thread, namespace = place(config)
        past = self._wait(remembering(thread, namespace, get_checkpoint_id(config), channels))
        return self._rows.history_of(past, channels)

    # -- writing ------------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        row, values = self._rows.row_of(config, checkpoint, metadata, new_versions)
        given = {"thread": row.thread, "namespace": row.namespace, "id": row.id}
        await self._ask("write_checkpoint", given, None, lambda store: store.put(row, values))
        return _config(row.thread, row.namespace, row.id)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        row, values = self._rows.row_of(config, checkpoint, metadata, new_versions)
        self._wait(lambda store: store.put(row, values))
        return _config(row.thread, row.namespace, row.id)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        thread, namespace = place(config)
        id = str(get_checkpoint_id(config))
        rows = self._rows.writes_of(writes, task_id, task_path)
        given = {"thread": thread, "namespace": namespace, "id": id, "task": task_id}
        await self._ask(
            "write_task", given, None, lambda store: store.put_writes(thread, namespace, id, rows)
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        thread, namespace = place(config)
        rows = self._rows.writes_of(writes, task_id, task_path)
        self._wait(lambda store: store.put_writes(thread, namespace, str(get_checkpoint_id(config)), rows))

    # -- whole threads ------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        await self._ask("delete_thread", {"thread": thread_id}, None, lambda store: store.delete(thread_id))

    def delete_thread(self, thread_id: str) -> None:
        self._wait(lambda store: store.delete(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        runs = [str(id) for id in run_ids]
        await self._ask("delete_for_runs", {"runs": runs}, None, lambda store: store.delete_of_runs(runs))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._wait(lambda store: store.delete_of_runs([str(id) for id in run_ids]))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        given = {"thread": source_thread_id, "to": target_thread_id}
        await self._ask(
            "copy_thread", given, None, lambda store: store.copy(source_thread_id, target_thread_id)
        )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._wait(lambda store: store.copy(source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        prune = self._pruning(thread_ids, strategy)
        await self._ask("prune", {"threads": list(thread_ids), "strategy": strategy}, None, prune)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._wait(self._pruning(thread_ids, strategy))

    def _pruning(self, threads: Sequence[str], strategy: str) -> Ask[None]:
        if strategy not in ("keep_latest", "delete"):
            msg = f'{strategy!r} is no way to prune: write "keep_latest" or "delete"'
            raise UsageError(msg)

        async def prune(store: CheckpointStore) -> None:
            for thread in threads:
                if strategy == "delete":
                    await store.delete(thread)
                else:
                    await keep_latest(self._rows, store, thread)

        return prune

    # -- versions -----------------------------------------------------------------------------------

    def get_next_version(self, current: Any, channel: None) -> str:
        """Numbers, and something that tells apart what two forks of one checkpoint put into a channel."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        rest = random() if in_run() else _random.random()  # noqa: S311
        return f"{number + 1:032}.{rest:016}"


def _config(thread: str, namespace: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": id}}
