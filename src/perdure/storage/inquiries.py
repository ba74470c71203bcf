"""What a store promises about inquiries: queries that a process without the code hands to one that has it.

They are of no concern to any run, and leave nothing behind: an inquiry is gone when its asker has the answer, or
when its time is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

#: How many inquiries a worker takes up at a time.
TAKE_MAX = 100


class NewInquiry(msgspec.Struct, frozen=True, gc=False):
    """A query of a run's handler `name`, with encoded arguments, to be answered before `expires_at`."""

    run_id: str
    workflow: str
    name: str
    input: bytes
    expires_at: float


class TakenInquiry(msgspec.Struct, frozen=True, gc=False):
    """An inquiry that a worker has taken up."""

    id: int
    run_id: str
    name: str
    input: bytes


class Inquiries(Protocol):
    """The inquiries that wait for somebody."""

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        """Put an inquiry, and return its id (never used before). Those whose time is over are removed."""
        ...

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        """Whether `take` would find anything. Reads only."""
        ...

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        """Take up unanswered inquiries about runs of these workflows, the oldest first, a bounded number.

        Nobody else gets them in the next `again` seconds. The driver of a run has precedence: others get
        inquiries about it only when they have waited for `again` seconds.
        """
        ...

    async def answer(self, id: int, answer: bytes) -> None:
        """Answer an inquiry. The first answer counts; of an inquiry that is gone nobody wants one."""
        ...

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        """The answers there are to these inquiries."""
        ...

    async def forget(self, id: int) -> None:
        """The asker has its answer, or waits no longer."""
        ...
