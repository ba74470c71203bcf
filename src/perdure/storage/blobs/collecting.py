"""Removes blobs that no event refers to, and those of runs that are gone.

A blob is written before the event that refers to it, so one that isn't referred to may be about to be. It is
only removed once it is older than a grace, and writing it anew makes it young again. Any number of processes may
collect at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from perdure.codec.blobrefs import decode_ref, is_ref
from perdure.errors import UndecodableError
from perdure.storage.blobs.places import folder_of, now
from perdure.storage.blobs.store import BlobStore
from perdure.storage.protocol import Store

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        removed, bytes: blobs that are gone, and their size.
        kept: blobs that events refer to.
        young: blobs that no event refers to, and that are within the grace.
    """

    removed: int = 0
    bytes: int = 0
    kept: int = 0
    young: int = 0

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            self.removed + other.removed,
            self.bytes + other.bytes,
            self.kept + other.kept,
            self.young + other.young,
        )


async def collect(
    store: BlobStore, *, ids: Iterable[str] | None = None, grace: float | None = None
) -> Collected:
    """Remove what isn't referred to.

    Args:
        ids: only blobs of these runs, such as some that were just removed.
        grace: seconds; by default that of the store's blobs.
    """
    before = now() - (store.blobs.seconds if grace is None else grace)
    if ids is None:
        folders = await asyncio.to_thread(lambda: list(store.place.folders()))
    else:
        folders = [folder_of(id) for id in dict.fromkeys(ids)]
    total = Collected()
    for folder in folders:
        total += await _collect(store, folder, before)
    return total


async def _collect(store: BlobStore, folder: str, before: float) -> Collected:
    place = store.place
    await asyncio.to_thread(place.tidy, folder, before=before)
    # Listed first: what is written and referred to after that isn't among them.
    files = await asyncio.to_thread(place.files, folder)
    old = [found for found in files if found.at < before]
    if not old:
        return Collected(young=len(files))
    id = await asyncio.to_thread(place.owner, folder)
    if id is None:  # damaged, or somebody else's
        return Collected(young=len(files))
    needed = await _needed(store.below, id)
    total = Collected(young=len(files) - len(old))
    for found in old:
        if found.name in needed:
            total += Collected(kept=1)
        elif await asyncio.to_thread(place.remove, folder, found.name, before=before):
            total += Collected(removed=1, bytes=found.size)
        else:
            total += Collected(young=1)
    await asyncio.to_thread(place.tidy, folder, before=before)
    return total


async def _needed(below: Store, id: str) -> set[str]:
    """Names of the blobs to which the histories of a run refer, all of its generations."""
    (newest,) = await below.get([id])
    names: set[str] = set()
    for number in range(1, 0 if newest is None else newest.generation + 1):
        row = (
            newest
            if newest is not None and number == newest.generation
            else await below.generation(id, number)
        )
        after = 0
        while row is not None:
            page = await below.events(row.run, after=after, limit=_PAGE)
            for _, data in page:
                if is_ref(data):
                    try:
                        names.add(decode_ref(data).name)
                    except UndecodableError:
                        continue  # whoever drives the run is told
            if len(page) < _PAGE:
                break
            after = page[-1][0]
    return names
