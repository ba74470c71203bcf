"""Recorded histories as tests: does today's code still go the way that they went?

`perdure verify MODULE --export-histories DIR` records some of the runs of a database. In a test they are replayed
without it, as a worker would after a deploy: nothing that the code asks for is carried out.

    import pytest
    from perdure.testing import RecordedHistory, recorded_histories

    import app  # the code under test

    @pytest.mark.parametrize("history", recorded_histories("tests/histories"), ids=str)
    def test_old_runs_go_on(history: RecordedHistory) -> None:
        history.replay()

The files' format: `perdure/storage/histories.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

from perdure.runtime import guard
from perdure.runtime.verifying import Trial
from perdure.storage.histories import Recorded, files_in, read

__all__ = ["RecordedHistory", "recorded_histories"]


class RecordedHistory:
    """The history of one run, from a file.

    Attributes:
        path: the file.
        run_id, workflow, status: of the run, when it was recorded.
        events: how many there are.
        redacted: texts in payloads are replaced, and inputs aren't compared.
        recorded: the history itself.
    """

    def __init__(self, path: Path, recorded: Recorded) -> None:
        header = recorded.header
        self.path = path
        self.run_id = header.id
        self.workflow = header.workflow
        self.status = header.status
        self.events = header.events
        self.redacted = header.redacted
        self.recorded = recorded

    def __str__(self) -> str:
        return self.path.name.partition(".history")[0]

    def __repr__(self) -> str:
        return f"<RecordedHistory {str(self.path)!r}: run {self.run_id!r} of {self.workflow}, {self.events} events>"

    def replay(self, *, turn_limit: float = 2.0, time_limit: float = 30.0) -> None:
        """Replay it with the code of this process.

        Args:
            turn_limit: seconds that code may go on without awaiting.
            time_limit: seconds for all of it.

        Raises:
            AssertionError: the run couldn't go on with this code; the text says where and why.
        """
        guard.install()
        trial = Trial(turn_limit, time_limit)
        try:
            verdict = trial.verdict(self.recorded)
        finally:
            trial.close()
        if verdict is not None:
            places = "".join(f"\n  code is at:   {place}" for place in verdict.places)
            text = verdict.text if "code is at:" in verdict.text else verdict.text + places
            raise AssertionError(f"{self.path}: {verdict.cause}: {text}")


def recorded_histories(folder: str | os.PathLike[str]) -> list[RecordedHistory]:
    """The recorded histories in a folder and those below it, in order of their files' names.

    Raises:
        HistoryFileError: there is no such folder, or a file in it isn't as it was written.

    Example:
        >>> recorded_histories("tests/histories")  # doctest: +SKIP
        [<RecordedHistory 'tests/histories/app.order-1f0c29ab77d2-1.history.jsonl': run 'o-1' of app.order, 12 events>]
    """
    return [RecordedHistory(path, read(path)) for path in files_in(Path(folder))]
