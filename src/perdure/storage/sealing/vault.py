"""Seals single payloads for the places where they lie, and opens them there, and nowhere else.

What a payload is bound to:

| what | bound to |
|---|---|
| an event of a history | run id, generation, seq |
| the event by which a run is ended from outside | run id |
| mail, and what becomes mail: answers to questions, mail for steps that wait for money | run id |
| the first event and mail of a run whose start may come to another run, by its `dedup` | that dedup |
| a published event | its id; while it is gathered: the workflow, its group and the number |
| anything else | its table, and the key of its row |

All of it also to the namespace, and to the head. Mail isn't bound to more than its run, since it goes over to later
generations, and its place is only known when it is taken.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import msgspec

from perdure.codec.events import decode_event
from perdure.codec.sealing.chain import CannotOpen, Chain, Codec, DataKey, Place
from perdure.codec.sealing.encryption import DATA_KEY, Encryption
from perdure.codec.sealing.envelope import REASON, Head, closed, head_of, is_sealed
from perdure.core import events as ev
from perdure.errors import SealedError, UndecodableError

#: So many data keys are kept at hand.
_KEYS_MAX = 10_000
#: Seconds after which it is asked whether a key at hand was destroyed meanwhile, by another process.
KEYS_FOR = 30.0
#: By these, a run that is ended from outside may end.
_FINAL_KINDS = frozenset({"run_terminated", "run_cancelled", "run_failed", ""})
_DEDUP = "dedup:"
_END = "end"


class _Donor(msgspec.Struct, gc=False):
    run: str = ""


class _Peek(msgspec.Struct, gc=False):
    """As much of an encoded event as its head says."""

    kind: str = ""
    at: float = 0.0
    step: str | None = None
    timer: str | None = None
    child: str | None = None
    callback: str | None = None
    wait: str | None = None
    update: str | None = None
    receive: str | None = None
    operation: str | None = None
    op: str | None = None
    donor: _Donor | None = None

    def name(self) -> str:
        """The id of what the event is about."""
        return (
            self.step
            or self.op
            or self.timer
            or self.child
            or self.callback
            or self.wait
            or self.update
            or self.receive
            or self.operation
            or ""
        )


_peek = msgspec.msgpack.Decoder(_Peek).decode
_bound = msgspec.msgpack.Encoder().encode
_NOTHING = _Peek()


def peeked(data: bytes) -> _Peek:
    """What can be told of an encoded event without reading all of it; nothing, if it isn't one."""
    try:
        return _peek(memoryview(data)[1:])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NOTHING


class Vault:
    """A chain of codecs, and the keys of subjects.

    Args:
        codecs: in the order in which they are applied.
        namespace: whose payloads these are.
    """

    def __init__(self, codecs: Sequence[Codec], namespace: str = "") -> None:
        self.chain = Chain(codecs)
        self.strict = bool(self.chain.required)
        self.encryption = next((codec for codec in codecs if isinstance(codec, Encryption)), None)
        self.index: bytes | None = None  # for digests and hidden fingerprints; see `index.py`
        self.no_index = ""  # why there is none
        self._namespace = namespace
        self._keys: OrderedDict[str, tuple[DataKey | None, float]] = OrderedDict()  # and since when

    # -- keys of subjects ---------------------------------------------------------------------------

    def unknown_keys(self, blobs: Iterable[bytes | None]) -> set[str]:
        """The ids of data keys without which some of these bytes can't be opened, and which are to be looked for."""
        found: set[str] = set()
        for data in blobs:
            if data is not None and b"data:" in data[:64] and (id := self.data_key_of(data)) is not None:
                if self.is_known(id):
                    self._keys.move_to_end(id)
                else:
                    found.add(id)
        return found

    def is_known(self, id: str) -> bool:
        """Whether a data key is at hand, or known to be destroyed, and was looked for not long ago."""
        kept = self._keys.get(id)
        return kept is not None and time.monotonic() - kept[1] < KEYS_FOR

    def keep_key(self, id: str, key: DataKey | None) -> None:
        """From now on this data key is at hand; None: it was destroyed, or can't be opened here."""
        self._keys[id] = key, time.monotonic()
        while len(self._keys) > _KEYS_MAX:
            self._keys.popitem(last=False)

    def data_key(self, id: str) -> DataKey | None:
        """The key, if it is at hand, however long ago it was looked for."""
        kept = self._keys.get(id)
        return None if kept is None else kept[0]

    def data_key_of(self, data: bytes) -> str | None:
        """The id of the data key that bytes are sealed with, None if it is another kind of key."""
        try:
            key = head_of(data).key if is_sealed(data) else ""
        except UndecodableError:
            return None
        return key.removeprefix(DATA_KEY) if key.startswith(DATA_KEY) else None

    # -- sealing ------------------------------------------------------------------------------------

    def event(
        self, data: bytes, id: str, generation: int, seq: int, key: DataKey | None, dedup: str | None = None
    ) -> bytes:
        """An event for its place in a history."""
        peek = peeked(data)
        scope = "" if dedup is None else _DEDUP + dedup
        bound = _bound((self._namespace, "event", scope or id, 0 if scope else generation, seq))
        place = Place(scope or id, bound, key)
        return self.chain.seal(data, place, peek.kind, peek.at, peek.name(), seq, scope)

    def final(self, data: bytes, id: str, key: DataKey | None = None) -> bytes:
        """The event by which a run is ended from outside, wherever its history stands."""
        peek = peeked(data)
        place = Place(id, _bound((self._namespace, "end", id)), key)
        return self.chain.seal(data, place, peek.kind, peek.at, "", 0, _END)

    def mail(self, data: bytes, id: str, key: DataKey | None = None, dedup: str | None = None) -> bytes:
        """An event for the inbox of a run."""
        peek = peeked(data)
        scope = "" if dedup is None else _DEDUP + dedup
        place = Place(scope or id, _bound((self._namespace, "mail", scope or id)), key)
        return self.chain.seal(data, place, peek.kind, peek.at, peek.name(), 0, scope)

    def event_again(self, data: bytes, id: str, generation: int, seq: int, head: Head | None) -> bytes:
        """An event that was opened, for the place that it had; without a head it wasn't sealed."""
        if head is not None and head.scope == _END:
            return self.final(data, id)
        return self.event(data, id, generation, seq, None, _dedup_of(head))

    def mail_again(self, data: bytes, id: str, head: Head | None) -> bytes:
        """The same for mail."""
        return self.mail(data, id, None, _dedup_of(head))

    def value(
        self, data: bytes, table: str, *row: str | int, key: DataKey | None = None, mark: str = ""
    ) -> bytes:
        """Anything else, for a row of a table. The first part of its key is its scope."""
        return self.chain.seal(data, self._place(table, row, key), mark=mark)

    def reason(self, text: str | None, id: str, key: DataKey | None = None) -> str | None:
        """Why a run is at what it is at, for its row."""
        if not text:
            return text
        return REASON + self.value(text.encode("utf-8", "surrogatepass"), "reason", id, key=key).hex()

    # -- opening ------------------------------------------------------------------------------------

    def open_event(self, data: bytes, id: str, generation: int, seq: int | None = None) -> bytes:
        """An event of a history, as it was before it was sealed.

        Args:
            seq: its place; None if only its head says.

        Raises:
            CannotOpen: it can't be.
        """
        if not is_sealed(data):
            return self.in_the_clear(data)
        head = head_of(data)
        if head.scope == _END and head.kind in _FINAL_KINDS:
            place = Place(id, _bound((self._namespace, "end", id)), self._key_of(head))
            return self.chain.open(data, place)
        if seq is not None and head.seq != seq:
            raise CannotOpen(f"it says that it is event {head.seq}, and it lies at {seq}", damaged=True)
        scope = head.scope if head.scope.startswith(_DEDUP) and head.seq == 1 else ""
        bound = _bound((self._namespace, "event", scope or id, 0 if scope else generation, head.seq))
        return self.chain.open(data, Place(scope or id, bound, self._key_of(head)))

    def open_mail(self, data: bytes, id: str) -> bytes:
        """An event from the inbox of a run. Raises CannotOpen."""
        if not is_sealed(data):
            return self.in_the_clear(data)
        head = head_of(data)
        scope = head.scope if head.scope.startswith(_DEDUP) else ""
        place = Place(scope or id, _bound((self._namespace, "mail", scope or id)), self._key_of(head))
        return self.chain.open(data, place)

    def open_value(self, data: bytes, table: str, *row: str | int) -> bytes:
        """Anything else. Raises CannotOpen."""
        if not is_sealed(data):
            if self.strict:
                raise CannotOpen("it isn't sealed, which this engine insists on", damaged=True)
            return data
        return self.chain.open(data, self._place(table, row, self._key_of(head_of(data))))

    def needed(self, data: bytes, table: str, *row: str | int) -> bytes:
        """The same for who can't do without.

        Raises:
            SealedError: it can't be opened.
        """
        try:
            return self.open_value(data, table, *row)
        except (CannotOpen, UndecodableError) as error:
            where = " ".join(map(str, row))
            msg = f"What is kept of {table} {where!r} can't be opened: {error}."
            raise SealedError(msg, key=self._key_name(data)) from error

    def mail_or_closed(self, data: bytes, id: str) -> bytes:
        """Mail, or in its place bytes that tell whoever decodes them why it can't be opened."""
        try:
            return self.open_mail(data, id)
        except (CannotOpen, UndecodableError) as error:
            return closing(data, error)

    def open_reason(self, text: str | None, id: str) -> str | None:
        """What `reason` was given, or that it can't be read."""
        if not text or not text.startswith(REASON):
            return text
        try:
            data = bytes.fromhex(text.removeprefix(REASON))
            return self.open_value(data, "reason", id).decode("utf-8", "surrogatepass")
        except (CannotOpen, UndecodableError, ValueError) as error:
            return f"(sealed: {error})"

    def in_the_clear(self, data: bytes) -> bytes:
        """An event that isn't sealed, if such a one is accepted. Raises CannotOpen."""
        if self.strict and not _is_bare(data):
            told = "it isn't sealed, which this engine insists on: somebody else has written it"
            raise CannotOpen(told, damaged=True)
        return data

    def digest(self, *parts: object) -> str:
        """A digest by which payloads can be compared, and which tells nobody else anything."""
        return blake2b(
            repr(parts).encode(), digest_size=16, key=self.index or b"", person=b"mark"
        ).hexdigest()

    def _place(self, table: str, row: Sequence[str | int], key: DataKey | None) -> Place:
        scope = str(row[0]) if row else table
        return Place(scope, _bound((self._namespace, table, *row)), key)

    def _key_of(self, head: Head) -> DataKey | None:
        if not head.key.startswith(DATA_KEY):
            return None
        return self.data_key(head.key.removeprefix(DATA_KEY))

    def _key_name(self, data: bytes) -> str:
        try:
            return head_of(data).key
        except UndecodableError:
            return ""


def _dedup_of(head: Head | None) -> str | None:
    return None if head is None or not head.scope.startswith(_DEDUP) else head.scope.removeprefix(_DEDUP)


def closing(data: bytes, error: Exception) -> bytes:
    """In the place of bytes that can't be opened: bytes that tell why."""
    try:
        head = head_of(data) if is_sealed(data) else _head_in_the_clear(data)
    except UndecodableError:
        head = Head(())
    return closed(head, str(error))


def _head_in_the_clear(data: bytes) -> Head:
    peek = peeked(data)
    return Head((), "", peek.kind, peek.at, peek.name())


def _is_bare(data: bytes) -> bool:
    """Whether an event is one that stores, or who moves their runs, write by themselves, and that carries no payload.

    Whoever can write to a database can end, cancel and pause runs, or let their time pass; so nothing is lost by
    believing it.
    """
    try:
        event = decode_event(data)
    except UndecodableError:
        return False
    match event:
        case ev.CancelRequested() | ev.RunPaused() | ev.RunResumed():
            return True
        case ev.RunTerminated():
            return event.failure is None
        case ev.ChildEnded():
            return event.result is None and event.failure is None
        case ev.QuestionAnswered():
            return False
        case ev.CallbackEnded():
            failure = event.failure
            return event.timed_out and event.result is None and _only_text(failure)
        case _:
            return False


def _only_text(failure: ev.Failure | None) -> bool:
    return failure is None or (
        failure.type == "builtins.TimeoutError" and failure.args is None and failure.state is None
    )
