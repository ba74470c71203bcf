"""What `Engine(blobs=...)` takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from perdure.errors import ConfigurationError

#: Names a place for programs and commands that give none.
ENVIRONMENT: Final = "PERDURE_BLOBS"

_LEAST = 4096


@dataclass(frozen=True, slots=True)
class Blobs:
    """Where large events are kept, beside the database.

    All engines of a database need the same place, and each database one of its own: what no run of it refers to is
    removed there.

    Args:
        url: a folder, as `file:///var/lib/blobs` or a path, or what fsspec knows, such as `s3://bucket/blobs`
            (`pip install 'perdure[blobs]'` and the package for that place).
        above: events of more bytes are kept there.
        grace: so long a blob that no event refers to stays, in seconds or as a timedelta. It must be longer than
            any commit takes.
        collect_every: seconds between looks for such blobs by engines with a worker; None = only when asked.

    Raises:
        ConfigurationError: a number can't be used.

    Example:
        >>> Blobs("s3://bucket/blobs", above=1_000_000)
        Blobs(url='s3://bucket/blobs', above=1000000, grace=86400.0, collect_every=3600.0)
    """

    url: str
    above: int = 256 * 1024
    grace: float | timedelta = 86_400.0
    collect_every: float | None = 3600.0

    def __post_init__(self) -> None:
        if not self.url:
            msg = "blobs: give a place, such as file:///var/lib/blobs or s3://bucket/blobs"
            raise ConfigurationError(msg)
        if self.above < _LEAST:
            msg = f"blobs: above={self.above!r} must be {_LEAST} or more: small events are quicker in the database"
            raise ConfigurationError(msg)
        if isinstance(self.grace, timedelta):
            object.__setattr__(self, "grace", self.grace.total_seconds())
        if not self.seconds >= 0 or (self.collect_every is not None and not self.collect_every > 0):
            msg = f"blobs: grace={self.grace!r} and collect_every={self.collect_every!r} can't be used"
            raise ConfigurationError(msg)

    @property
    def seconds(self) -> float:
        """The grace."""
        return self.grace.total_seconds() if isinstance(self.grace, timedelta) else self.grace


def named_by_environment() -> str | None:
    """The place that the environment names."""
    return os.environ.get(ENVIRONMENT, "").strip() or None
