"""The numbers an engine runs by, in one place, checked once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.core.bounds import NAME_MAX, PAYLOAD_MAX, VERSION_MAX, Bounds
from perdure.core.retention import Rule
from perdure.errors import ConfigurationError
from perdure.runtime.liveness import Whereabouts
from perdure.runtime.observing import Telemetry
from perdure.storage.chance import chance

#: How long events that were published are kept, in seconds.
KEEP_PUBLICATIONS = 7 * 86_400.0


def processors() -> int:
    """How many processors the machine has."""
    return os.cpu_count() or 1


def _code(version: str) -> str:
    """Without a version nobody knows whether two engines have the same code: each then counts as its own."""
    if not version:
        return chance.uuid4().hex
    from importlib import metadata  # which imports much, and few need it

    return f"{version} on {metadata.version('perdure')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and intervals of one engine. Times in seconds.

    Attributes:
        queues: the queues its worker serves; the first is the default for new runs.
        concurrency: steps executing at once.
        threads: how many of them may be sync steps, each in a thread.
        processes: how many of them may be steps with process=True; as many as the machine has processors.
        evict_after: a run that only waits leaves memory after this long.
        max_resident: runs in memory at once, besides errands.
        lease: a worker that isn't heard of for this long counts as dead, wherever it is.
        max_recoveries: a run that takes its worker down more often than this in a row is blocked, if it was the only
            one there at last.
        turn_limit: longest time workflow code may run without awaiting, None = for ever.
        max_payload: largest encoded argument list or result, in bytes.
        bounds: how long histories may become.
        keep_publications: how long events that were published are kept, None = for ever.
        grace: how long executing steps may go on when the engine closes.
        name: the worker's name in listings; by default host and process id.
        version: what its users call the version of this worker's code; "" = nothing.
        code: identifies that code: a run that it couldn't drive isn't given to it again.
        clock: wall-clock seconds since the epoch.
        monotonic: seconds that are never set, as the event loop counts them.
        telemetry: what observes this engine, besides what observes all of the process.
        whereabouts: which process this is, and which others of its machine live.
        retention: how long runs are kept, beside what workflows say of that.
    """

    queues: Sequence[str] = ("default",)
    concurrency: int = 1000
    threads: int = 32
    processes: int = field(default_factory=processors)
    evict_after: float = 60.0
    max_resident: int = 10_000
    lease: float = 15.0
    max_recoveries: int = 10
    turn_limit: float | None = 2.0
    max_payload: int = PAYLOAD_MAX
    bounds: Bounds = field(default_factory=Bounds)
    keep_publications: float | None = KEEP_PUBLICATIONS
    grace: float = 5.0
    name: str | None = None
    version: str = ""
    code: str = ""
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    telemetry: Sequence[Telemetry] = ()
    whereabouts: Whereabouts = field(default_factory=Whereabouts)
    retention: Sequence[Rule] = ()

    def __post_init__(self) -> None:
        if not self.queues or isinstance(self.queues, str):
            msg = f"queues={self.queues!r}: an engine needs a tuple of at least one queue name"
            raise ConfigurationError(msg)
        if len(self.version) > VERSION_MAX or not (self.version.isprintable() or not self.version):
            msg = f"version={self.version!r}: a version has up to {VERSION_MAX} printable characters"
            raise ConfigurationError(msg)
        if self.name is not None and not (0 < len(self.name) <= NAME_MAX and self.name.isprintable()):
            msg = f"name={self.name!r}: a worker's name has 1 to {NAME_MAX} printable characters"
            raise ConfigurationError(msg)
        if not self.code:
            object.__setattr__(self, "code", _code(self.version))
        for name in ("concurrency", "threads", "processes", "max_resident", "max_payload", "lease"):
            if not getattr(self, name) > 0:  # NaN isn't, either
                msg = f"{name}={getattr(self, name)!r} must be greater than 0"
                raise ConfigurationError(msg)
        for name in ("evict_after", "grace", "max_recoveries"):
            if not getattr(self, name) >= 0:
                msg = f"{name}={getattr(self, name)!r} can't be negative"
                raise ConfigurationError(msg)
        if self.keep_publications is not None and not self.keep_publications >= 0:
            msg = f"keep_publications={self.keep_publications!r} can't be negative"
            raise ConfigurationError(msg)
        if self.turn_limit is not None and not self.turn_limit > 0:
            msg = f"turn_limit={self.turn_limit!r} must be greater than 0 seconds, or None for no limit"
            raise ConfigurationError(msg)
