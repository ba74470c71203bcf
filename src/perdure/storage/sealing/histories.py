"""Histories on their way out: opened, or with what can't be opened and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from perdure.codec.sealing.chain import CannotOpen
from perdure.codec.sealing.envelope import head_of, is_sealed
from perdure.errors import UndecodableError
from perdure.storage.chain import Damage, DamageKind
from perdure.storage.records import Detail, History
from perdure.storage.sealing.vault import Vault, closing


def opened(vault: Vault, history: History, id: str, generation: int) -> History:
    """A history as it was recorded.

    An event whose key is missing tells so when it is decoded: the run is blocked, and goes on where the key is. One
    that was changed, or moved here from elsewhere, is damage.
    """
    mail = [msgspec.structs.replace(item, data=vault.mail_or_closed(item.data, id)) for item in history.mail]
    details = _details(vault, history.details, id)
    if history.damage is not None:
        closed = [_or_closed(vault, data, id, generation) for data in history.events]
        return History(history.run, closed, mail, details, history.damage)
    events: list[bytes] = []
    for seq, data in zip(_places(history.events), history.events, strict=True):
        try:
            events.append(vault.open_event(data, id, generation, seq))
        except (CannotOpen, UndecodableError) as error:
            if isinstance(error, UndecodableError) or error.damaged:
                text = f"event {seq} can't be opened: {error}"
                return History(history.run, events, mail, details, Damage(DamageKind.CONTENT, seq, text))
            events.append(closing(data, error))
    return History(history.run, events, mail, details, None)


def _or_closed(vault: Vault, data: bytes, id: str, generation: int) -> bytes:
    try:
        return vault.open_event(data, id, generation)
    except (CannotOpen, UndecodableError) as error:
        return closing(data, error)


def _details(vault: Vault, details: Sequence[Detail], id: str) -> list[Detail]:
    found: list[Detail] = []
    for detail in details:
        try:
            data = vault.open_value(detail.data, "detail", id, detail.step)
        except (CannotOpen, UndecodableError):
            continue  # nothing hangs on it: the step is told that there is none
        found.append(msgspec.structs.replace(detail, data=data))
    return found


def blobs(history: History) -> Iterable[bytes]:
    """All that is to be opened of a history."""
    yield from history.events
    for item in history.mail:
        yield item.data
    for detail in history.details:
        yield detail.data


def _places(events: Sequence[bytes]) -> list[int]:
    """The seq of each event: all; or after a checkpoint the first one, and those behind it, as these say."""
    for place, data in enumerate(events[1:], 1):
        if seq := _seq_of(data):
            after = seq - place
            break
    else:
        after = 1
    return [1, *range(after + 1, after + len(events))][: len(events)]


def _seq_of(data: bytes) -> int:
    try:
        return head_of(data).seq if is_sealed(data) else 0
    except UndecodableError:
        return 0
