"""Which codecs an engine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from perdure.codec.sealing.chain import Codec
from perdure.codec.sealing.environment import codecs_from_env
from perdure.errors import ConfigurationError, UsageError
from perdure.storage.keys import INDEX
from perdure.storage.protocol import Store
from perdure.storage.records import NewRun

if TYPE_CHECKING:
    from perdure.storage.sealing import SealedStore


def with_codecs(store: Store, codec: Codec | Sequence[Codec] | None) -> Store:
    """The store as an engine uses it.

    Args:
        codec: as `Engine` takes it; None = what the environment says.

    Raises:
        ConfigurationError: the codecs or keys can't be used.
    """
    codecs = chosen_codecs(codec)
    if not codecs:
        return store
    from perdure.storage.sealing import SealedStore  # few need it

    return SealedStore(store, codecs)


def chosen_codecs(codec: Codec | Sequence[Codec] | None) -> tuple[Codec, ...]:
    """The codecs that are meant; None = what the environment says."""
    if codec is None:
        return codecs_from_env()
    return (codec,) if isinstance(codec, Codec) else tuple(codec)


async def store_for_clients(store: Store) -> Store:
    """An open store as an engine's handles use it: without keys they write nothing to sealed runs."""
    if not await store.keys.of(INDEX):
        return store
    from perdure.storage.sealing.unkeyed import Unkeyed

    sealed = sealed_in(store)
    return (
        store if sealed is not None and sealed.vault.encryption is not None else cast("Store", Unkeyed(store))
    )


def sealed_in(store: Store) -> SealedStore | None:
    """The sealed store that a store is, or that is below it."""
    from perdure.storage.sealing import SealedStore

    below: Any = store
    while below is not None and not isinstance(below, SealedStore):
        below = getattr(below, "_inner", None)
    found: SealedStore | None = below
    return found


def with_subject(run: NewRun, subject: str, store: Store) -> NewRun:
    """The run with whose data it holds.

    Raises:
        UsageError: that can't be a subject.
        ConfigurationError: nothing is encrypted here.
    """
    sealed = sealed_in(store)
    if sealed is None or sealed.vault.encryption is None:
        msg = f"subject={subject!r}: this engine encrypts nothing: give it Engine(codec=perdure.Encryption(...))"
        raise ConfigurationError(msg)
    return msgspec.structs.replace(run, subject=checked_subject(subject))


_SUBJECT_MAX = 200


def checked_subject(subject: str) -> str:
    """A subject as it can be kept.

    Raises:
        UsageError: it can't be.
    """
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX or not subject.isprintable():
        msg = f"subject={subject!r}: a subject is a string of 1 to {_SUBJECT_MAX} printable characters"
        raise UsageError(msg)
    return subject
