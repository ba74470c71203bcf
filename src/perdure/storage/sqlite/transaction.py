"""One attempt, or several, to do a number of jobs in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.storage.records import Append, Appended, Stale
from perdure.storage.sqlite.appends import append_at_once, apply_appends
from perdure.storage.sqlite.connection import refuse_moved
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.job import Job


class Transaction:
    """Jobs that are committed together.

    Attributes:
        answers: one for each job, once it has run.
    """

    def __init__(self, path: str, writer: int, jobs: Sequence[Job]) -> None:
        self.answers: list[Any] = []
        self._path = path
        self._writer = writer
        self._jobs = jobs
        self._mark: int | None = None

    def run(self, db: Database, number: int) -> None:
        """Do the jobs and commit; if it raises, the caller must roll back."""
        self._mark = None
        if self._is_done_at_once(db):
            return
        db.begin()
        refuse_moved(db, self._path)
        before = db.connection.total_changes()
        self.answers = self._do_jobs(db)
        if db.connection.total_changes() != before and any(map(_needs_mark, self._jobs)):
            db.run("mark_commit", {"writer": self._writer, "number": number})
            self._mark = number
        db.commit()

    def has_happened(self, db: Database) -> bool:
        """Whether a commit of unknown outcome took place, as far as its mark can tell."""
        if self._mark is None:
            return False
        return bool(db.value("marked_commit", {"writer": self._writer}) == self._mark)

    def _is_done_at_once(self, db: Database) -> bool:
        """Do them if they are nothing but appends that one statement can do."""
        if any(job.verb is not None for job in self._jobs):
            return False
        refuse_moved(db, self._path)
        done = append_at_once(db, [append for job in self._jobs for append in job.appends])
        if done is None:
            return False
        refuse_moved(db, self._path)  # it may have waited long for the lock
        self.answers = _split(done, [len(job.appends) for job in self._jobs])
        return True

    def _do_jobs(self, db: Database) -> list[Any]:
        """The jobs' answers, in order. Appends in a row are applied together."""
        answers: list[Any] = []
        sizes: list[int] = []
        appends: list[Append] = []

        def apply() -> None:
            done = apply_appends(db, appends)
            answers.extend(_split(done, sizes))
            sizes.clear()
            appends.clear()

        for job in self._jobs:
            if job.verb is None:
                sizes.append(len(job.appends))
                appends.extend(job.appends)
            else:
                apply()
                answers.append(job.verb(db, *job.work))
        apply()
        return answers


def needs_mark(append: Append) -> bool:
    """Whether a repeat of an append couldn't tell that it is one, or what the answer was."""
    return bool(append.children or append.successor)


def _needs_mark(job: Job) -> bool:
    return job.verb is not None or any(map(needs_mark, job.appends))


def _split(answers: Sequence[Appended | Stale], sizes: Sequence[int]) -> list[Sequence[Appended | Stale]]:
    """Cut a list into parts of these sizes."""
    parts: list[Sequence[Appended | Stale]] = []
    start = 0
    for size in sizes:
        parts.append(answers[start : start + size])
        start += size
    return parts
