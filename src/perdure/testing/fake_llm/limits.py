"""The fake provider's rate limits: buckets that fill steadily, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass


class Bucket:
    """So much in a minute. It begins full, and fills steadily.

    Args:
        per_minute: how much it gives in a minute.
        size: how much it holds; a minute's worth without it.
    """

    def __init__(self, per_minute: float, size: float | None = None) -> None:
        self.per_minute = per_minute
        self.size = per_minute if size is None else size
        self._level = self.size
        self._at: float | None = None

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self.size, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until it has so much, 0 if it has. What it can never hold, it gives when it is full."""
        self._fill(now)
        missing = min(amount, self.size) - self._level
        return max(0.0, missing * 60 / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level -= amount

    def left(self, now: float) -> int:
        self._fill(now)
        return max(0, int(self._level))

    def reset(self, now: float) -> float:
        """Seconds until it is full."""
        self._fill(now)
        return max(0.0, (self.size - self._level) * 60 / self.per_minute)


@dataclass(frozen=True)
class Standing:
    """How a limit stands: what a response tells of it."""

    limit: int
    left: int
    reset: float  #: seconds until all of it is there again


class Limits:
    """The limits of one fake provider.

    Args:
        requests_per_minute, tokens_per_minute: None for no limit.
        burst: how many requests may come at once; a minute's worth without it.
    """

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, burst: float | None
    ) -> None:
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, burst)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)

    def admit(self, tokens: int, now: float) -> float:
        """Take what a call needs. Returns 0, or the seconds to wait, and then nothing is taken."""
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.wait(1, now))
        if self._tokens is not None:
            waits.append(self._tokens.wait(tokens, now))
        if (wait := max(waits)) > 0:
            return wait
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        return 0.0

    def standings(self, now: float) -> dict[str, Standing]:
        """By name, "requests" and "tokens": those limits that there are."""
        buckets = {"requests": self._requests, "tokens": self._tokens}
        return {
            name: Standing(int(bucket.per_minute), bucket.left(now), bucket.reset(now))
            for name, bucket in buckets.items()
            if bucket is not None
        }
