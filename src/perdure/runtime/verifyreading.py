"""What is to be verified: runs in a database that others work on meanwhile, or files of recorded histories.

A run is read by an auditor, which can't write. Its history is proved first. Since histories only grow, one that is read
up to where the run's row stood is whole, whatever was appended meanwhile; what doesn't fit is looked at again.
"""

from __future__ import annotations

from perdure.codec.blobrefs import is_ref
from perdure.codec.sealing.envelope import is_sealed
from perdure.codec.sealing.environment import codecs_from_env
from perdure.errors import DamagedHistoryError, StoreError
from perdure.runtime.definitions import is_entity
from perdure.runtime.soundness import damaged as damage_error
from perdure.runtime.verifying import Cause, Trial, Verdict, damaged, verdict
from perdure.storage.auditing import Auditor, Replayable
from perdure.storage.blobs.fetching import fetched_by_environment
from perdure.storage.chain import Proof, first_of, is_sound, unreadable
from perdure.storage.histories import VERSION, Header, Recorded
from perdure.storage.records import History

#: Looks at a run that keeps changing under a verdict.
_LOOKS = 5
_PAGE = 2000  # events


class Gone(Exception):
    """The run has ended meanwhile, or isn't here any more: nothing is to be said of it."""


def candidate(auditor: Auditor, run: int, *, finished: bool) -> Replayable:
    """What is known of a run now.

    Raises:
        Gone: there is nothing to verify.
    """
    for found in auditor.replayable(after=run - 1, limit=1, finished=finished):
        if found.run == run:
            return found
    raise Gone


def verify_run(
    auditor: Auditor, trial: Trial, run: int, *, version: str | None, finished: bool
) -> tuple[Recorded, Verdict | None]:
    """What would become of a run in a database, and what was read of it.

    Raises:
        Gone: it has ended meanwhile.
        StoreError: the database can't be read.
    """
    found = candidate(auditor, run, finished=finished)
    looks = 0
    while True:
        looks += 1
        try:
            recorded = read_run(auditor, found)
        except DamagedHistoryError as error:
            recorded = Recorded(header_of(found), ())
            said: Verdict | None = damaged(recorded, error)
        else:
            said = _pinned(recorded, found, version) or trial.verdict(recorded)
        if said is None or looks == _LOOKS:
            return recorded, said
        again = candidate(auditor, run, finished=finished)
        if again == found:
            return recorded, said
        found = again


def _pinned(recorded: Recorded, found: Replayable, version: str | None) -> Verdict | None:
    if not found.pinned or found.version in (None, version or ""):
        return None
    text = f"the run is pinned to version {found.version!r} and stays with its workers"
    return verdict(recorded, Cause.PINNED, text, history_says=text, code_says="doesn't meet it")


def header_of(found: Replayable, events: int = 0) -> Header:
    """What a recorded history says of its run."""
    return Header(
        perdure_history=VERSION,
        id=found.id,
        generation=found.generation,
        workflow=found.workflow,
        status=found.status,
        began=found.began,
        driven=found.driven,
        events=events,
        version=found.version,
    )


def read_run(auditor: Auditor, found: Replayable) -> Recorded:
    """The history of a run up to where its row stood.

    Raises:
        DamagedHistoryError: it isn't what was recorded.
    """
    try:
        if found.checkpoint and is_entity(found.workflow):
            events = _from_checkpoint(auditor, found, found.checkpoint)
        else:
            events = _whole(auditor, found)
    except StoreError as error:
        raise damage_error(found.id, unreadable(error)) from error
    events = [fetched_by_environment(data) if is_ref(data) else data for data in events]
    events = _opened(found, events)
    return Recorded(header_of(found, len(events)), events)


def _opened(found: Replayable, events: list[bytes]) -> list[bytes]:
    """The same events, those that are sealed opened with the keys of the environment, as far as they go."""
    if not any(map(is_sealed, events)) or not (codecs := codecs_from_env()):
        return events
    from perdure.storage.sealing.histories import opened  # few need it
    from perdure.storage.sealing.vault import Vault

    history = opened(Vault(codecs), History(0, events, ()), found.id, found.generation)
    if history.damage is not None:
        raise damage_error(found.id, history.damage)
    return list(history.events)


def _whole(auditor: Auditor, found: Replayable) -> list[bytes]:
    proof = Proof(found.id, found.generation, found.seq, found.chain)
    events: list[bytes] = []
    for seq, link, data in _events(auditor, found, 0):
        proof.feed(seq, link, data)
        events.append(data)
    if damage := proof.finish():
        raise damage_error(found.id, first_of(damage, None))
    return events


def _from_checkpoint(auditor: Auditor, found: Replayable, checkpoint: int) -> list[bytes]:
    first = auditor.events(found.run, after=0, limit=1)
    rest = list(_events(auditor, found, checkpoint - 1))
    there = rest.pop(0)[1] if rest and rest[0][0] == checkpoint else None
    seqs = [seq for seq, _, _ in [*first, *rest]]
    events = [data for _, _, data in [*first, *rest]]
    if not first or not is_sound(
        found.id, found.generation, found.seq, found.chain, checkpoint, there, seqs, first[0][1], events
    ):
        raise damage_error(found.id, first_of((), checkpoint))
    return events


def _events(auditor: Auditor, found: Replayable, after: int) -> list[tuple[int, int, bytes]]:
    rows: list[tuple[int, int, bytes]] = []
    while after < found.seq and (
        page := auditor.events(found.run, after=after, limit=min(_PAGE, found.seq - after))
    ):
        rows += page
        after = page[-1][0]
    return [row for row in rows if row[0] <= found.seq]
