"""What has come to a limit: a run, or who sends to it."""

from __future__ import annotations

from datetime import datetime

from perdure.errors.base import PerdureError


class LimitExceededError(PerdureError):
    """A limit was reached. The message says which, how much, and what to do instead."""


class HistoryFullError(LimitExceededError):
    """A run's history is as long as the engine's `bounds` allow. Blocks the run, which needs `continue_as`."""


class TooManyPendingError(LimitExceededError):
    """Workflow code has more steps, timers, children and waits open at once than a run may have."""


class InboxFullError(LimitExceededError):
    """More messages and updates wait in a run's inbox than may. Nothing was sent."""


class QuotaExceededError(LimitExceededError):
    """A namespace has used up its quota. Nothing was started.

    Attributes:
        namespace: whose quota it is.
        what: "runs", "starts", "storage" or "usd".
        limit, used: how much of that it may have, and has.
        again: when asking again may help; None if nobody knows.
    """

    def __init__(
        self, message: str, *, namespace: str, what: str, limit: float, used: float, again: datetime | None
    ) -> None:
        super().__init__(message)
        self.namespace = namespace
        self.what = what
        self.limit = limit
        self.used = used
        self.again = again
