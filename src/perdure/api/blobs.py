"""Which blobs an engine has, and the task that collects them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from perdure.errors import PerdureError
from perdure.storage.blobs.config import Blobs, named_by_environment
from perdure.storage.chance import chance
from perdure.storage.protocol import Store

if TYPE_CHECKING:
    from perdure.storage.blobs.store import BlobStore

logger = logging.getLogger("perdure.blobs")


def with_blobs(store: Store, blobs: Blobs | str | None) -> tuple[BlobStore | None, Store]:
    """The store as an engine uses it, twice: as what has the blobs, if it has some.

    Raises:
        ConfigurationError: their place can't be used.
    """
    given = blobs or named_by_environment()
    if given is None:
        return None, store
    from perdure.storage.blobs.store import BlobStore  # few have some

    made = BlobStore(store, given if isinstance(given, Blobs) else Blobs(given))
    return made, made


async def keep_collecting(store: BlobStore) -> None:
    """Collect for as long as the engine is open, at other moments than the other engines."""
    from perdure.storage.blobs.collecting import collect

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
