"""What comes before a step: something that its options say has to be done each time code asks for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from perdure.core.machine import Machine


class Before(Protocol):
    """Such as having it approved by a person. It happens in workflow code, as a part of awaiting the step."""

    def before(self, call: Any, machine: Machine, op_id: str, input: bytes) -> Generator[Any, Any, bytes]:
        """Returns the encoded arguments with which the step is asked for; raises, if it isn't to be.

        Args:
            call: of the step.
            op_id: the step's.
        """
        ...
