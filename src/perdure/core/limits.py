"""When a map has succeeded, and when it has failed: counting only."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many items of a map have to succeed, and how many may fail. With nothing given, none may fail.

    Args:
        min_successful: so many successes are enough; the rest isn't waited for.
        max_failures: so many failures are tolerated.
        max_failure_ratio: such a share of all items may fail.

    Raises:
        UsageError: a number is out of range.

    Example:
        >>> Limits(max_failures=1).broken(succeeded=5, failed=2, total=10)
        '2 of 10 items failed, and max_failures=1 tolerates no more than 1'
    """

    min_successful: int | None = None
    max_failures: int | None = None
    max_failure_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.min_successful is not None and not _is_count(self.min_successful, 1):
            msg = f"map(min_successful={self.min_successful!r}): give a whole number >= 1, or leave it out"
            raise UsageError(msg)
        if self.max_failures is not None and not _is_count(self.max_failures, 0):
            msg = f"map(max_failures={self.max_failures!r}): give a whole number >= 0, or leave it out"
            raise UsageError(msg)
        ratio = self.max_failure_ratio
        if ratio is not None and (
            isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 1
        ):
            msg = f"map(max_failure_ratio={ratio!r}): give a share of all items, from 0.0 to 1.0, or leave it out"
            raise UsageError(msg)

    def enough(self, succeeded: int) -> bool:
        """Whether the rest needn't be waited for."""
        return self.min_successful is not None and succeeded >= self.min_successful

    def broken(self, *, succeeded: int, failed: int, total: int | None) -> str | None:
        """Why the map has failed whatever the rest brings, None if it hasn't.

        Args:
            total: how many items there are, None while that isn't known.
        """
        of = f"{failed} of {total if total is not None else 'the'} items failed"
        if self.max_failures is not None and failed > self.max_failures:
            return f"{of}, and max_failures={self.max_failures} tolerates no more than {self.max_failures}"
        if self.max_failure_ratio is not None and total and failed / total > self.max_failure_ratio:
            return f"{of}, and max_failure_ratio={self.max_failure_ratio:g} tolerates no larger share"
        if self.min_successful is not None:
            if total is not None and total - failed < self.min_successful:
                return f"{of}, so the {self.min_successful} successes that min_successful= asks for can't be reached"
        elif self.max_failures is None and self.max_failure_ratio is None and failed:
            return f"{of}; no limit was given (such as max_failures=), so none may"
        return None


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
