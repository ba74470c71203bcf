"""What must hold of callbacks."""

from __future__ import annotations

import msgspec

from perdure.runtime.tokens import token_hash
from perdure.storage.callbacks import CallbackRow, CallbackState
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.clocks import EPOCH
from perdure.testing.simulation.observer import Observer, Rule

_ROUNDING = 0.000_002


class FirstCompletion(Rule):
    """Of callbacks:

    - A callback ends once, and stays ended as it was: by the first completion, failure or time-out that is committed.
    - Of those who complete or fail it at most one is told that it has; what that one brought is what the run gets,
      whatever crashes, each time its code awaits the callback. Nobody is told so whose callback timed out.
    - None times out before its time, by heartbeats and time-out, if clocks are right.
    - A callback that ended, and whose run goes on, reaches the code.
    """

    def __init__(self, observer: Observer, books: SimulatedBooks) -> None:
        self._observer = observer
        self._books = books
        self._rows: dict[bytes, CallbackRow] = {}
        self._acknowledged: dict[str, str] = {}

    def acknowledged(self, tag: str, outcome: str) -> None:
        """Somebody was told that a callback had ended by this."""
        self._observer.tell(f"{tag} is {outcome}, somebody was told")
        self._observer.counts["callbacks completed"] += 1
        if tag in self._acknowledged:
            self._observer.wrong(f"{tag} was {self._acknowledged[tag]}, and then {outcome}")
        self._acknowledged[tag] = outcome

    def carried_out(self, verb: str) -> None:
        for hash, row in self._observer.database.callbacks.items():
            before = self._rows.get(hash)
            if before is not None and (before.state, before.heard_at, before.run) == (
                row.state, row.heard_at, row.run,
            ):  # fmt: skip
                continue
            self._rows[hash] = msgspec.structs.replace(row)
            if before is None:
                continue
            if before.state != CallbackState.OPEN and row.state != before.state:
                if row.run != before.run:  # a generation that goes on after a failure asks for it anew
                    continue
                self._observer.wrong(f"{row.op} of {row.run_id} was {before.state}, and is {row.state}")
            if row.state == CallbackState.EXPIRED and before.state == CallbackState.OPEN:
                self._expired(row)

    def _expired(self, row: CallbackRow) -> None:
        self._observer.counts["callbacks expired"] += 1
        deadline = row.deadline
        if self._observer.clocks_are_right and (
            deadline is None or deadline > self._observer.now + _ROUNDING
        ):
            self._observer.wrong(
                f"{row.op} of {row.run_id} timed out at {self._observer.now - EPOCH}, before its time"
            )

    def look_back(self) -> None:
        for tag, outcomes in self._books.outcomes.items():
            row = self._rows.get(token_hash(self._books.tokens[tag]))
            state = "lost" if row is None else row.state
            if len(outcomes) > 1:
                self._observer.wrong(f"the code of {tag} has seen {sorted(outcomes)} of one callback")
            (outcome, *_) = sorted(outcomes)
            acknowledged = self._acknowledged.get(tag)
            if outcome.partition(" ")[0] != state:
                self._observer.wrong(f"{tag} is {state}, and its code has seen: {outcome}")
            if acknowledged is not None and acknowledged != outcome:
                self._observer.wrong(
                    f"{tag}: somebody was told it had {acknowledged}, its code has seen: {outcome}"
                )
        for tag, acknowledged in self._acknowledged.items():
            run = self._observer.is_recorded_with(tag)
            if tag not in self._books.outcomes and run is not None and run.status == "completed":
                self._observer.wrong(
                    f"{tag} was {acknowledged}, its run has completed, and never heard of it"
                )
