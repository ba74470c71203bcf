"""What must hold of streams."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.storage.memory_streams import Stream
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.instructions import STREAM
from perdure.testing.simulation.observer import Observer, Rule


class StreamItems(Rule):
    """Of the items that runs and their steps put out:

    - What a stream holds never changes; it only grows, by offsets without gaps.
    - An item of a step is written only by who drives its run, or its errand, at that moment: none comes after a zombie.
    - When a run has completed, the items that count (which no later mark has taken back) of each step of it, and of its
      own code, are all of those that were put out, each once, in order.
    - A reader who has followed it from its beginning, over all interruptions, and has taken back what marks said, has
      the same.
    """

    def __init__(self, observer: Observer, books: SimulatedBooks) -> None:
        self._observer = observer
        self._books = books
        self._known: dict[tuple[str, str], list[Any]] = {}
        self._read: dict[str, list[Any]] = {}

    def carried_out(self, verb: str) -> None:
        for place, stream in self._observer.database.streams.items():
            known = self._known.setdefault(place, [])
            for run, row in stream.rows[len(known) :]:
                known.append(row)
                if row.offset != len(known):
                    self._observer.wrong(f"stream of {place[0]}: item {row.offset} is at {len(known)}")
                if row.data is not None:
                    self._observer.counts["items"] += 1
                if row.step is not None and row.data is not None and not self._may_write(run):
                    self._observer.wrong(
                        f"stream of {place[0]}: process {self._observer.sender} wrote an item of {row.step}, which "
                        "isn't its"
                    )

    def _may_write(self, run: int) -> bool:
        observer = self._observer
        children = observer.database.children.get(run, ())
        return any(observer.owned_by(key, observer.sender) for key in (run, *children))

    def followed(self, id: str, items: list[Any]) -> None:
        """A reader has got these items, without those that were taken back."""
        self._read[id] = items

    def look_back(self) -> None:
        for (id, name), stream in self._observer.database.streams.items():
            if name != STREAM:
                continue
            if [row for _, row in stream.rows] != self._known.get((id, name)):
                self._observer.wrong(f"stream of {id}: what it holds has changed")
            self._compare(id, stream)
        for tag, count in self._books.emitting.items():
            run = self._observer.is_recorded_with(tag)
            if run is not None and run.status == "completed":
                stream = self._observer.database.streams.get((run.id, STREAM), Stream([], {}))
                mine = [item for item in counting(stream) if item[0] == tag]
                if mine != [[tag, number, count] for number in range(count)]:
                    self._observer.wrong(
                        f"stream of {run.id}: {tag} has put {count} items out, and these count: {mine}"
                    )

    def _compare(self, id: str, stream: Stream) -> None:
        items = counting(stream)
        last = self._observer.database.find_id(id)
        if last is not None and last.status == "completed":
            found: dict[str, list[Any]] = {}
            for tag, number, count in items:
                found.setdefault(tag, []).append((number, count))
            for tag, got in found.items():
                if got != [(number, got[0][1]) for number in range(got[0][1])]:
                    self._observer.wrong(f"stream of {id}: of {tag} these items count: {got}")
        if id in self._read and self._read[id] != items:
            self._observer.wrong(f"stream of {id}: a reader got {self._read[id]}, and it holds {items}")


def counting(stream: Stream) -> list[Any]:
    """The items that no later mark has taken back."""
    marks: dict[tuple[int, str | None], int] = {}
    for run, row in stream.rows:
        if row.data is None:
            marks[run, row.step] = row.offset
    return [
        msgspec.json.decode(row.data)
        for run, row in stream.rows
        if row.data is not None and marks.get((run, row.step), 0) < row.offset
    ]
