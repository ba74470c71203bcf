"""What a saver asks of a store, as functions that are given the store where it lives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import get_checkpoint_id

from perdure.integrations.langgraph.homes import Ask
from perdure.integrations.langgraph.rows import Rows
from perdure.storage.checkpoints import Ancestor, CheckpointHead, CheckpointStore, KeptCheckpoint

_PAGE = 500  # heads looked through at a time


def listed_by(config: RunnableConfig | None, before: RunnableConfig | None) -> dict[str, str | None]:
    configurable: dict[str, Any] = {} if config is None else config.get("configurable", {})
    thread = configurable.get("thread_id")
    return {
        "thread": None if thread is None else str(thread),
        "namespace": configurable.get("checkpoint_ns"),
        "id": configurable.get("checkpoint_id"),
        "before": None if before is None else get_checkpoint_id(before),
    }


def looking(
    rows: Rows,
    config: RunnableConfig | None,
    filter: dict[str, Any] | None,
    before: RunnableConfig | None,
    after: CheckpointHead | None,
    limit: int | None,
) -> Ask[tuple[list[CheckpointHead], CheckpointHead | None]]:
    """The next page of a list: whose metadata fits; and behind which the next page begins, None if there is none."""
    where = listed_by(config, before)
    size = _PAGE if filter or limit is None else min(limit, _PAGE)

    async def look(store: CheckpointStore) -> tuple[list[CheckpointHead], CheckpointHead | None]:
        page = await store.heads(
            where["thread"],
            where["namespace"],
            id=where["id"],
            before=where["before"],
            after=after,
            limit=size,
        )
        fit = [head for head in page if not filter or rows.fits(head, filter)]
        return fit[:limit], page[-1] if len(page) == size else None

    return look


def listing(
    rows: Rows,
    config: RunnableConfig | None,
    filter: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Ask[list[KeptCheckpoint]]:
    """All of a list at once."""

    async def collect(store: CheckpointStore) -> list[KeptCheckpoint]:
        found: list[KeptCheckpoint] = []
        after: CheckpointHead | None = None
        while limit is None or len(found) < limit:
            left = None if limit is None else limit - len(found)
            heads, after = await looking(rows, config, filter, before, after, left)(store)
            kept = [await getting(head)(store) for head in heads]
            found += [it for it in kept if it is not None]
            if after is None:
                break
        return found

    return collect


def getting(head: CheckpointHead) -> Ask[KeptCheckpoint | None]:
    return lambda store: store.get(head.thread, head.namespace, head.id)


def remembering(thread: str, namespace: str, id: str | None, channels: Sequence[str]) -> Ask[list[Ancestor]]:
    async def remember(store: CheckpointStore) -> list[Ancestor]:
        target = id
        if target is None:
            newest = await store.heads(thread, namespace, limit=1)
            if not newest:
                return []
            target = newest[0].id
        return await store.past(thread, namespace, target, list(channels))

    return remember


async def keep_latest(rows: Rows, store: CheckpointStore, thread: str) -> None:
    """Prune to the newest checkpoint of each namespace, and what its channels of deltas are rebuilt from."""
    latest: dict[str, CheckpointHead] = {}
    after: CheckpointHead | None = None
    while page := await store.heads(thread, None, after=after, limit=_PAGE):
        for head in page:
            latest.setdefault(head.namespace, head)
        after = page[-1]
    for head in latest.values():
        kept = await store.get(thread, head.namespace, head.id)
        if kept is not None:
            deltas = rows.deltas_of(kept)
            past = await store.past(thread, head.namespace, head.id, deltas) if deltas else []
            keep = [ancestor.id for ancestor in past]
            await store.prune(thread, head.namespace, before=head.id, keep=keep)
