"""Values that can't be written, or can't be read again."""

from __future__ import annotations

from perdure.errors.base import PerdureError


class NotSerializableError(PerdureError):
    """A value can't be written, or wouldn't come back as what its annotation promises."""


class PayloadTooLargeError(NotSerializableError):
    """An encoded value is larger than the engine's `max_payload`."""


class UndecodableError(PerdureError):
    """A recorded value can't be read as the type the code declares today. Blocks the run."""


class SecretUnavailableError(PerdureError):
    """A secret can't be found, or isn't allowed, in the process that executes the step."""


class SealedError(UndecodableError):
    """A recorded payload is sealed, and can't be opened here. Blocks the run.

    Attributes:
        key: the id of the key that it was sealed with, "" if that isn't known.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class HistoryFileError(PerdureError):
    """A file that should hold a recorded history isn't one, isn't whole, or was written by a newer Perdure."""
