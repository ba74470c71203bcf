"""Which blobs an engine has, and the task that collects them."""

from __future__ import annotations

import asyncio
import logging

from perdure.errors import PerdureError
from perdure.storage.blobs import Blobs, BlobStore, collect
from perdure.storage.blobs.fetching import named_by_environment
from perdure.storage.chance import chance
from perdure.storage.protocol import Store

logger = logging.getLogger("perdure.blobs")


def with_blobs(store: Store, blobs: Blobs | str | None) -> tuple[BlobStore | None, Store]:
    """The store as an engine uses it, twice: as what has the blobs, if it has some.

    Raises:
        ConfigurationError: their place can't be used.
    """
    given = blobs or named_by_environment()
    if given is None:
        return None, store
    made = BlobStore(store, given if isinstance(given, Blobs) else Blobs(given))
    return made, made


async def keep_collecting(store: BlobStore) -> None:
    """Collect for as long as the engine is open, at other moments than the other engines."""
    every = store.blobs.collect_every
    while every is not None:
        await asyncio.sleep(every * (0.5 + chance.random()))
        try:
            found = await collect(store)
        except PerdureError as error:
            logger.warning("couldn't collect blobs, will try again: %s", error)
        # Nothing else that may be wrong with a file is worth an engine.
        except Exception:
            logger.exception("collecting blobs failed, will try again")
        else:
            if found.removed:
                logger.info(
                    "removed %d blobs of %d bytes to which no event refers", found.removed, found.bytes
                )
