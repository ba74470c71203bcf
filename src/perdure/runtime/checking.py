"""Looks through a whole database for damage: `perdure check`.

Each history is proved against the checksum in its run's row (storage/chain.py), a page at a time, and what the tables
say of each other is compared. Workers may go on meanwhile, so nothing is told before a second look has found the same,
with nothing appended in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from perdure.codec.blobrefs import is_ref
from perdure.codec.events import view_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import StoreError, UndecodableError, UnknownRunError
from perdure.storage.auditing import Auditor, Standing
from perdure.storage.chain import Proof

#: Runs that are read at a time.
_RUNS = 200
#: Bytes of events that are read at a time, about.
_BYTES = 4 * 1024 * 1024
_EVENTS_MAX = 2000
#: Looks at a run that keeps changing; then it is left to the next check.
_LOOKS = 5

_ENDS: dict[type[ev.Event], Status] = {
    ev.RunCompleted: Status.COMPLETED,
    ev.RunFailed: Status.FAILED,
    ev.RunCancelled: Status.CANCELLED,
    ev.RunTerminated: Status.TERMINATED,
    ev.RunContinued: Status.CONTINUED,
}
_STATUS_OF = {str(kind.__struct_config__.tag): status for kind, status in _ENDS.items()}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        kind: of a history "content", "checksum", "missing", "surplus", "head", "unreadable" (see DamageKind) or
            "undecodable"; "status", "checkpoint", "mail", "generation", "id" where a run's row doesn't fit;
            "stray" for rows of no run; "database" for what the database complains of itself.
        text: what was found, for people.
        run: the run's id, None if it isn't about one.
        generation: which run of this id.
        seq: the event, None if it isn't about one.
        key: the run's key in the database.
    """

    kind: str
    text: str
    run: str | None = None
    generation: int | None = None
    seq: int | None = None
    key: int | None = None


class Counts(msgspec.Struct):
    """What was looked at.

    Attributes:
        runs: generations of runs.
        events, bytes: of their histories.
        damaged: generations with a finding.
        changing: those that changed in each look at them; nothing is known of these.
    """

    runs: int = 0
    events: int = 0
    bytes: int = 0
    damaged: int = 0
    changing: int = 0


class Check:
    """One look through a database.

    Args:
        auditor: reads it.
        progress: called now and then.

    Attributes:
        counts: so far.
    """

    def __init__(self, auditor: Auditor, progress: Callable[[Counts], None] | None = None) -> None:
        self._auditor = auditor
        self._progress = progress
        self._page = 64  # events; adapts to their sizes
        self.counts = Counts()

    def everything(self, *, files: bool = True) -> Iterator[Finding]:
        """All that is wrong.

        Args:
            files: let the database look through its own files, too.
        """
        if files:
            yield from self._database()
        after = 0
        try:
            while page := self._auditor.runs(after=after, limit=_RUNS):
                yield from self._strays(after, page[-1].run)
                for standing in page:
                    yield from self._run(standing)
                after = page[-1].run
                if self._progress is not None:
                    self._progress(self.counts)
        except StoreError as error:
            yield Finding("database", f"the rows of runs behind the key {after} can't be read: {error}")
        else:
            yield from self._strays(after, None)

    def runs(self, ids: Sequence[str]) -> Iterator[Finding]:
        """What is wrong with these runs.

        Raises:
            UnknownRunError: one of them isn't there.
        """
        for id in ids:
            keys = self._auditor.keys(id)
            if not keys:
                raise UnknownRunError(f"no run has the id {id!r} in {self._auditor.where}", run_id=id)
            for key in keys:
                standing = self._auditor.standing(key)
                if standing is not None:
                    yield from self._run(standing)

    def _database(self) -> Iterator[Finding]:
        try:
            complaints = self._auditor.complaints()
        except StoreError as error:
            complaints = [str(error)]
        for text in complaints:
            yield Finding("database", text)

    def _strays(self, after: int, upto: int | None) -> Iterator[Finding]:
        try:
            strays = self._auditor.strays(after=after, upto=upto)
        except StoreError as error:
            yield Finding("database", str(error))
            return
        for stray in strays:
            rows = "1 row" if stray.rows == 1 else f"{stray.rows} rows"
            text = f"{rows} of {stray.table} belong to the run with the key {stray.run}, which isn't there"
            yield Finding("stray", text, key=stray.run)

    # -- one run ------------------------------------------------------------------------------------

    def _run(self, standing: Standing) -> list[Finding]:
        self.counts.runs += 1
        before: tuple[Standing, list[Finding]] | None = None
        for _ in range(_LOOKS):
            events, size, found = self._look(standing)
            if not found or before == (standing, found):
                self.counts.events += events
                self.counts.bytes += size
                self.counts.damaged += bool(found)
                return found
            before = standing, found
            again = self._auditor.standing(standing.run)
            if again is None:  # it was moved away meanwhile
                return []
            standing = again
        self.counts.changing += 1
        return []

    def _look(self, standing: Standing) -> tuple[int, int, list[Finding]]:
        """How many events and bytes a history has, and what is wrong with it and its run's row."""
        found: list[Finding] = []
        proof = Proof(standing.id, standing.generation, standing.seq, standing.chain)

        def tell(kind: str, text: str, seq: int | None = None) -> None:
            found.append(Finding(kind, text, standing.id, standing.generation, seq, standing.run))

        events = size = 0
        last: bytes | None = None
        summed_up = standing.checkpoint is None
        try:
            for seq, link, data in self._history(standing.run):
                events, size = events + 1, size + len(data)
                proof.feed(seq, link, data)
                last = data if seq == standing.seq else last
                if seq > standing.seq:
                    break  # one of them tells enough; or it was appended since
                event = _look_into(seq, data, tell)
                if isinstance(event, ev.Checkpointed) and seq > (standing.checkpoint or 0):
                    summed_up = True
        except StoreError as error:
            tell("unreadable", str(error))
            return events, size, found
        damage = proof.finish()
        broken = {one.seq for one in damage if one.seq is not None}
        found = [one for one in found if one.kind != "undecodable" or one.seq not in broken]
        for one in damage:
            tell(one.kind.value, one.text, one.seq)
        if proof.untold:
            tell("content", f"{proof.untold} more events of this history are damaged")
        if not (summed_up or damage):
            tell(
                "checkpoint",
                f"its row says that a replay may go on after event {standing.checkpoint}; none says how",
            )
        if last is not None and standing.seq not in broken:
            _look_at_end(standing, last, tell)
        _look_at_row(standing, tell)
        return events, size, found

    def _history(self, run: int) -> Iterator[tuple[int, int, bytes]]:
        after = 0
        while page := self._auditor.events(run, after=after, limit=self._page):
            yield from page
            after = page[-1][0]
            size = sum(len(data) for _, _, data in page)
            if len(page) == self._page or size > _BYTES:
                fits = self._page * _BYTES // max(size, 1)
                self._page = max(4, min(fits, self._page * 4, _EVENTS_MAX))


_Tell = Callable[..., None]


def _look_into(seq: int, data: bytes, tell: _Tell) -> ev.Shown | None:
    if is_ref(data):
        return None  # a blob: whoever reads it compares it with its digest
    try:
        return view_event(data)
    except UndecodableError as error:
        tell("undecodable", f"event {seq} can't be read: {error}", seq)
        return None


def _look_at_end(standing: Standing, last: bytes, tell: _Tell) -> None:
    """Whether the newest event and the run's status say the same of its end."""
    try:
        event = view_event(last)
    except UndecodableError:
        return
    tag = event.what if isinstance(event, ev.Sealed) else str(type(event).__struct_config__.tag)
    said = _STATUS_OF.get(tag)
    final = Status(standing.status).final if standing.status in _STATUSES else False
    if (final or said is not None) and said != standing.status:
        tell("status", f"its row says {standing.status!r}, but its newest event is {tag}", standing.seq)


_STATUSES = frozenset(status.value for status in Status)


def _look_at_row(standing: Standing, tell: _Tell) -> None:
    if standing.status not in _STATUSES:
        tell("status", f"its status is {standing.status!r}, which there isn't")
    if standing.mail != standing.inbox:
        tell("mail", f"its row counts {standing.mail} inbox items, and there are {standing.inbox}")
    if standing.next and not standing.next_is_there:
        tell("generation", f"its next generation has the key {standing.next}, which isn't there")
    if not standing.known:
        tell("id", "it isn't found by its id")
