"""From a reference to the event: fetched, and compared with its digest."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

import msgspec

from perdure.codec.blobrefs import BlobRef, decode_ref, encode_ref
from perdure.errors import UndecodableError
from perdure.storage.blobs.config import named_by_environment
from perdure.storage.blobs.places import Place, place_of

_change = msgspec.structs.replace


def fetched(place: Place, url: str, reference: bytes) -> bytes:
    """The event; or, if it can't be had, a reference that says why.

    Raises:
        StoreUnavailableError: the place can't be reached.
    """
    try:
        ref = decode_ref(reference)
    except UndecodableError as error:
        return encode_ref(BlobRef(b"", 0, "", str(error)))
    data = place.get(ref.folder, ref.name)
    if data is None:
        return encode_ref(_change(ref, why=f"it isn't in {url}"))
    if len(data) != ref.size or sha256(data).digest() != ref.digest:
        return encode_ref(_change(ref, why=f"what is in {url} isn't what was written there"))
    return data


def fetched_by_environment(reference: bytes) -> bytes:
    """The same for who reads a database without an engine; the reference itself if the environment names no place."""
    url = named_by_environment()
    return reference if url is None else fetched(_place(url), url, reference)


@lru_cache(maxsize=1)
def _place(url: str) -> Place:
    return place_of(url)
