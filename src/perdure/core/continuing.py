"""Ends a run's code so that the run goes on in its next generation, with a call and an empty history."""

from __future__ import annotations

from typing import Any


class ContinueAs(BaseException):
    """Leaves the workflow function. A BaseException, so that `except Exception` lets it by.

    Args:
        call: what the next generation runs.
        workflow: the durable name of that.
        input: its encoded arguments.
    """

    def __init__(self, call: Any, workflow: str, input: bytes) -> None:
        super().__init__(f"the run goes on as {call!r}")
        self.call = call
        self.workflow = workflow
        self.input = input
