r"""Recorded histories as files, for tests that replay them without a database: one run a file, lines of JSON.

    {"perdure_history": 1, "id": "r-1", "workflow": "app.research", "events": 12, ...}   see Header
    {"seq": 1, "what": "RunStarted", "data": "AYSk..."}             each event: for people, and its bytes as base64
    ...
    {"end": 12, "digest": "9f0c..."}                                BLAKE2b-256 of all bytes before this line

`data` is what the database holds, so a file is read by every later version of Perdure, as the database is. A reader
refuses versions of the file that it doesn't know.

A *shape* is what two histories have in common that take the same way through the code: their workflow, and the kinds
and names of their events in order, without numbers. A corpus needs few histories of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.mismatch import describe_event
from perdure.errors import HistoryFileError, UndecodableError

VERSION = 1
SUFFIX = ".history.jsonl"

_NUMBER = re.compile(r"\d+")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line.

    Attributes:
        perdure_history: the version of the file's format.
        id, generation, workflow, status: of the run, when it was read.
        began: when it was first driven, wall-clock seconds.
        driven: it had been driven.
        events: how many there are.
        redacted: texts in payloads are replaced, and inputs left out (see redacting.py).
        version: of the code that had driven it last.
    """

    perdure_history: int
    id: str
    generation: int
    workflow: str
    status: str
    began: float
    driven: bool
    events: int
    redacted: bool = False
    version: str | None = None


class Recorded(msgspec.Struct, frozen=True):
    """A history apart from its database.

    Attributes:
        events: encoded; of an entity the first one, and those from its newest checkpoint on.
    """

    header: Header
    events: Sequence[bytes]


class _Line(msgspec.Struct, frozen=True):
    seq: int
    what: str
    data: bytes


class _End(msgspec.Struct, frozen=True):
    end: int
    digest: str


_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(Header).decode
_line = msgspec.json.Decoder(_Line).decode
_end = msgspec.json.Decoder(_End).decode


def written(recorded: Recorded) -> bytes:
    """The whole file."""
    lines = [_encode(recorded.header)]
    for seq, data in enumerate(recorded.events, 1):
        lines.append(_encode(_Line(seq, _told(data), data)))
    body = b"\n".join(lines) + b"\n"
    digest = hashlib.blake2b(body, digest_size=32).hexdigest()
    return body + _encode(_End(len(recorded.events), digest)) + b"\n"


def _told(data: bytes) -> str:
    try:
        return describe_event(decode_event(data))
    except UndecodableError:
        return "an event that this Perdure can't read"


def read(path: Path) -> Recorded:
    """The history in a file.

    Raises:
        HistoryFileError: it isn't one, isn't whole, or has a version that isn't known here.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HistoryFileError(f"{path} can't be read: {error}") from error
    *lines, last = data.removesuffix(b"\n").split(b"\n")
    try:
        version = msgspec.json.decode(lines[0], type=dict[str, object]).get("perdure_history")
    except (IndexError, msgspec.MsgspecError):
        version = None
    if version is None:
        msg = (
            f"{path} is no history of Perdure's: its first line doesn't say so. Give files that "
            "`perdure verify --export-histories` has written."
        )
        raise HistoryFileError(msg)
    if version != VERSION:
        msg = (
            f"{path} has version {version!r} of the format, and this Perdure reads version {VERSION}. Use the release "
            "of Perdure that wrote it, or a newer one."
        )
        raise HistoryFileError(msg)
    try:
        header = _header(lines[0])
        events = [_line(line).data for line in lines[1:]]
        end = _end(last)
    except msgspec.MsgspecError as error:
        raise HistoryFileError(f"{path} isn't as it was written: {error}. Export it anew.") from error
    digest = hashlib.blake2b(b"\n".join(lines) + b"\n", digest_size=32).hexdigest()
    if end != _End(len(events), digest) or header.events != len(events):
        msg = f"{path} isn't as it was written: its digest doesn't fit. Restore it, or export it anew."
        raise HistoryFileError(msg)
    return Recorded(header, events)


def files_in(folder: Path) -> list[Path]:
    """The files of histories in a folder and those below it, in order of their names.

    Raises:
        HistoryFileError: it is no folder.
    """
    if not folder.is_dir():
        msg = f"There is no folder {folder}. `perdure verify MODULE --export-histories {folder}` makes one."
        raise HistoryFileError(msg)
    return sorted(folder.rglob(f"*{SUFFIX}"))


def shape_of(workflow: str, events: Sequence[bytes]) -> str:
    """The shape of a history, as 12 hexadecimal digits. Repetitions in a row count once."""
    hashed = hashlib.blake2b(workflow.encode(), digest_size=6)
    before: tuple[str, str] | None = None
    for data in events:
        event = decode_event(data)
        name = getattr(event, "step", None) or getattr(event, "op", None) or getattr(event, "name", "")
        now = type(event).__name__, _NUMBER.sub("", str(name))
        if now != before and not isinstance(event, ev.RunRecovered):
            hashed.update("\0".join(now).encode("utf-8", "surrogatepass") + b"\n")
            before = now
    return hashed.hexdigest()


class Corpus:
    """A folder to which histories are added. What is there stays, and counts. Several processes may add to it at once.

    Args:
        per_shape: how many of each shape there are to be; 0 = all.
    """

    def __init__(self, folder: Path, per_shape: int) -> None:
        self._folder = folder
        self._most = per_shape
        self._known: dict[str, set[tuple[str, int]]] = {}  # by shape, the runs that are there
        self._next: dict[str, int] = {}

    def lacks(self, header: Header, shape: str) -> bool:
        """Whether one more history of this shape is wanted, and this run's isn't there."""
        known = self._known.get(shape)
        if known is None:
            known = self._known[shape] = set()
            for path in self._folder.glob(f"*-{shape}-*{SUFFIX}"):
                with contextlib.suppress(HistoryFileError):
                    there = read(path).header
                    known.add((there.id, there.generation))
        return (header.id, header.generation) not in known and not (self._most and len(known) >= self._most)

    def add(self, recorded: Recorded, shape: str) -> bool:
        """Write a history as a whole. False if there are enough of its shape by now."""
        header = recorded.header
        name = re.sub(r"[^\w.-]", "_", header.workflow)
        draft = self._folder / f".{secrets.token_hex(8)}.draft"
        number = self._next.get(shape, 1)
        try:
            draft.write_bytes(written(recorded))
            while not self._most or number <= self._most:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, self._folder / f"{name}-{shape}-{number}{SUFFIX}")
                    self._known.setdefault(shape, set()).add((header.id, header.generation))
                    return True
                number += 1
            return False
        finally:
            self._next[shape] = number
            draft.unlink(missing_ok=True)
