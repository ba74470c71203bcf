"""What has come to a limit: a run, or who sends to it."""

from __future__ import annotations

from perdure.errors.base import PerdureError


class LimitExceededError(PerdureError):
    """A limit was reached. The message says which, how much, and what to do instead."""


class HistoryFullError(LimitExceededError):
    """A run's history is as long as the engine's `bounds` allow. Blocks the run, which needs `continue_as`."""


class TooManyPendingError(LimitExceededError):
    """Workflow code has more steps, timers, children and waits open at once than a run may have."""


class InboxFullError(LimitExceededError):
    """More messages and updates wait in a run's inbox than may. Nothing was sent."""
