"""What may be on a disk after its power was cut, made from the log of a `RecordingDisk`.

A `Platter` is fed the log, operation by operation. At any moment it can tell what is certainly there (what was
synced), and draw one of the many things that may be: whatever wasn't synced may be there, or not, or in parts,
in any order, whole sectors of it or damaged ones. A sync is a promise that SQLite relies on, and so is that a write
leaves the bytes beside it alone.

What holds for names differs between file systems, so there are two `Directories`. A journalling one keeps the order
of all changes, and a sync of the directory makes all of them safe; SQLite does one when it first syncs a new journal.
The strict one promises as little as SQLite's interface asks for: syncing a new file makes its own name safe, and a
removed name stays away only if that was asked for when it was removed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from perdure.testing.disk import Created, Cut, Deleted, Existed, Failed, Mark, Operation, Synced, Written

SECTOR: Final = 512
_SHARES = (0.1, 0.5, 0.9)  # how large a share of writes arrives

Image: TypeAlias = dict[str, bytes]


class Directories(Enum):
    """What a file system promises about names."""

    JOURNALLED = "journalled"
    STRICT = "strict"


class Cutting(Enum):
    """What became of the writes that weren't synced; drawn for each file."""

    NOTHING = "nothing"  #: all are lost
    EVERYTHING = "everything"  #: all arrived, just not the sync
    FIRST = "first"  #: they arrived in order up to some moment, the last one in part
    SOME = "some"  #: any of them arrived
    TORN = "torn"  #: any sectors of them arrived
    GARBLED = "garbled"  #: of some sectors only rubbish arrived


_CUTTINGS: Final = tuple(Cutting)


class Platter:
    """A disk as it stands at one moment of a log.

    Args:
        directories: what is promised about names.
        chance: decides what a sync that failed has left.
    """

    def __init__(
        self, directories: Directories = Directories.JOURNALLED, chance: random.Random | None = None
    ) -> None:
        self._chance = chance or random.Random(0)  # noqa: S311 - a seed must bring the same images
        self._directories = directories
        self._safe: dict[int, bytearray] = {}  #: by file
        self._unsynced: dict[int, list[Written | Cut]] = {}
        self._names: dict[str, int] = {}  #: those that are safe
        self._renamings: list[Created | Deleted] = []  #: those that aren't

    def apply(self, operation: Operation) -> None:
        """Let one operation happen."""
        match operation:
            case Existed(name, file, data):
                self._names[name] = file
                self._safe[file] = bytearray(data)
                self._unsynced[file] = []
            case Created(_, file):
                self._safe[file] = bytearray()
                self._unsynced[file] = []
                self._renamings.append(operation)
            case Deleted(name, _, synced):
                self._renamings.append(operation)
                if synced:
                    self._sync_names({name})
            case Written(file) | Cut(file):
                self._unsynced[file].append(operation)
            case Synced(file, directory):
                for change in self._unsynced[file]:
                    _put(self._safe[file], change)
                self._unsynced[file].clear()
                if directory or self._directories is Directories.STRICT:
                    self._sync_names({change.name for change in self._renamings if change.file == file})
            case Failed(file):
                self._arrive(self._safe[file], self._unsynced[file], self._chance)
                self._unsynced[file].clear()
            case Mark():
                pass

    def image(self, chance: random.Random) -> Image:
        """One of the things that may be there if power is lost now: the files' contents, by name."""
        names = dict(self._names)
        if self._directories is Directories.JOURNALLED:
            for change in self._renamings[: chance.randint(0, len(self._renamings))]:
                _rename(names, change)
        else:
            lost: set[str] = set()
            for change in self._renamings:  # of one name in order, of several names in any
                if change.name in lost or chance.random() < 0.5:
                    lost.add(change.name)
                else:
                    _rename(names, change)
        return {name: self._content(file, chance) for name, file in names.items()}

    def _content(self, file: int, chance: random.Random) -> bytes:
        content = bytearray(self._safe[file])
        self._arrive(content, self._unsynced[file], chance)
        return bytes(content)

    def _arrive(self, content: bytearray, changes: list[Written | Cut], chance: random.Random) -> None:
        if changes:
            for change in _cut(changes, chance.choice(_CUTTINGS), chance):
                _put(content, change)

    def _sync_names(self, names: set[str]) -> None:
        """What happened to these names is safe, and on a journalling file system all that happened before."""
        left: list[Created | Deleted] = []
        for change in self._renamings:
            if self._directories is Directories.JOURNALLED or change.name in names:
                _rename(self._names, change)
            else:
                left.append(change)
        self._renamings = left


def _cut(changes: list[Written | Cut], how: Cutting, chance: random.Random) -> Iterator[Written | Cut]:
    """Those changes, and parts of changes, that arrive."""
    if how is Cutting.NOTHING:
        return
    if how is Cutting.EVERYTHING:
        yield from changes
        return
    if how is Cutting.FIRST:
        arrived = chance.randint(0, len(changes) - 1)
        yield from changes[:arrived]
        if isinstance(last := changes[arrived], Written):
            sectors = list(_sectors(last))
            yield from sectors[: chance.randint(0, len(sectors) - 1)]
        return
    share = chance.choice(_SHARES)
    for change in changes:
        if how is Cutting.SOME or isinstance(change, Cut):
            if chance.random() < share:
                yield change
            continue
        for sector in _sectors(change):
            if chance.random() < share:
                yield sector
            elif how is Cutting.GARBLED and chance.random() < 0.5:
                yield sector._replace(data=chance.randbytes(len(sector.data)))


def _sectors(write: Written) -> Iterator[Written]:
    """A write in the pieces that a disk writes at once."""
    file, offset, data = write
    end = offset + len(data)
    while offset < end:
        stop = min(end, (offset // SECTOR + 1) * SECTOR)
        start = offset - write.offset
        yield Written(file, offset, data[start : start + stop - offset])
        offset = stop


def _put(content: bytearray, change: Written | Cut) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
        return
    missing = change.offset - len(content)
    if missing > 0:
        content += bytes(missing)
    content[change.offset : change.offset + len(change.data)] = change.data


def _rename(names: dict[str, int], change: Created | Deleted) -> None:
    if isinstance(change, Created):
        names[change.name] = change.file
    else:
        names.pop(change.name, None)


def images(
    log: Sequence[Operation], count: int, seed: int, directories: Directories = Directories.JOURNALLED
) -> Iterator[tuple[int, Image]]:
    """Images of losses of power at moments drawn by chance, in order, and one of the very end.

    Yields the number of operations that had happened, and the image.
    """
    chance = random.Random(seed)  # noqa: S311 - a seed must bring the same images
    first = sum(isinstance(operation, Existed) for operation in log)
    moments = sorted([*(chance.randint(first, len(log)) for _ in range(count - 1)), len(log)])
    platter = Platter(directories, chance)
    done = 0
    for moment in moments:
        while done < moment:
            platter.apply(log[done])
            done += 1
        yield moment, platter.image(chance)


def put(image: Image, folder: Path) -> None:
    """Let a folder hold an image's files and nothing else."""
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
