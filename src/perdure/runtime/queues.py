"""The queues that this process has defined, and what may be said of a run's place in one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

from perdure.core import bounds
from perdure.core.namespaces import is_reserved, refusal
from perdure.core.queues import PRIORITY_MAX, QueueSettings
from perdure.core.rates import Rate
from perdure.errors import ConfigurationError, DuplicateNameError, UsageError
from perdure.storage.protocol import Store

logger = logging.getLogger("perdure.queues")

#: Longest name of a queue, and longest key, in characters.
NAME_MAX = bounds.NAME_MAX


class Queue:
    """A named line of runs with limits, which hold over all workers and during recovery.

    Define it at module level; its limits are stored when an engine opens, and the newest definition holds. A run of the
    queue waits in line until it is admitted, and then holds a slot until its end.

    Args:
        name: as runs and workers name it.
        concurrency: how many runs hold a slot at once.
        per_worker: how many of them one worker has in memory at once.
        rate: how many runs may begin in any window of time.
        per_key: how many runs of one key (see `Engine.start`) hold a slot at once.
        priority: heed the priorities of runs: the highest is first, of equals the one that has waited longest.
        fairness: "key" lets keys take turns, those with the fewest slots first, so that one with many runs doesn't
            keep the others waiting.

    Raises:
        ConfigurationError: a limit is out of range.
        DuplicateNameError: another module has defined the queue otherwise.

    Example:
        >>> ingest = Queue("ingest", concurrency=50, rate=Rate(100, per=60), per_key=1)
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        per_worker: int | None = None,
        rate: Rate | None = None,
        per_key: int | None = None,
        priority: bool = False,
        fairness: str | None = None,
    ) -> None:
        self.name = checked_queue(name)
        self.settings = QueueSettings(
            concurrency=concurrency,
            per_worker=per_worker,
            rate=rate,
            per_key=per_key,
            priority=priority,
            fairness=fairness,
        )
        check_settings(name, self.settings)
        caller = inspect.currentframe()
        before = None if caller is None else caller.f_back
        self.module = "" if before is None else str(before.f_globals.get("__name__", ""))
        known = _queues.get(name)
        if known is not None and known.module != self.module and known.settings != self.settings:
            msg = (
                f"the queue {name!r} is defined in {known.module} and otherwise in {self.module}: "
                "define it in one module, and import it in the other"
            )
            raise DuplicateNameError(msg)
        _queues[name] = self

    def __repr__(self) -> str:
        return f"<queue {self.name!r}>"


_queues: dict[str, Queue] = {}


def queue_name(queue: str | Queue) -> str:
    """The name of a queue that is given by name or as an object. Raises ConfigurationError if it can't be one."""
    return queue.name if isinstance(queue, Queue) else checked_queue(queue)


def checked_queue(name: str) -> str:
    """Raises ConfigurationError for names that can't be a queue's."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable() or "," in name:
        msg = f"{name!r} can't name a queue: a name has 1 to {NAME_MAX} printable characters and no comma"
        raise ConfigurationError(msg)
    return name


def check_settings(name: str, settings: QueueSettings) -> None:
    """Raises ConfigurationError for limits that are none."""
    for limit in ("concurrency", "per_worker", "per_key"):
        value = getattr(settings, limit)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            msg = f"queue {name!r}: {limit}={value!r} must be a whole number of at least 1, or None for no limit"
            raise ConfigurationError(msg)
    if settings.rate is not None and not isinstance(settings.rate, Rate):
        msg = f"queue {name!r}: rate={settings.rate!r} must be a Rate, such as Rate(100, per=60)"
        raise ConfigurationError(msg)
    if settings.fairness not in (None, "key"):
        msg = f'queue {name!r}: fairness={settings.fairness!r} must be "key" or None'
        raise ConfigurationError(msg)


async def define_queues(store: Store, clock: Callable[[], float]) -> None:
    """Store what this process has defined."""
    for queue in list(_queues.values()):
        before = await store.queues.define(queue.name, queue.settings, now=clock())
        if before is not None and before != queue.settings:
            logger.warning(
                "queue %r has other limits from now on: %s; before: %s",
                queue.name,
                described(queue.settings),
                described(before),
            )


def described(settings: QueueSettings) -> str:
    """The limits of a queue in a line.

    Example:
        >>> described(QueueSettings(concurrency=50, rate=Rate(100, per=60), fairness="key"))
        'concurrency 50, rate 100 per 60 s, fairness by key'
    """
    told = [
        f"{word} {value}"
        for word, value in (
            ("concurrency", settings.concurrency),
            ("per worker", settings.per_worker),
            ("rate", None if settings.rate is None else f"{settings.rate.limit} per {settings.rate.per:g} s"),
            ("per key", settings.per_key),
            ("fairness by", settings.fairness),
        )
        if value is not None
    ]
    return ", ".join([*told, *(["priorities"] if settings.priority else [])]) or "no limits"


# -- what is said of runs -------------------------------------------------------------------------------


def checked_priority(priority: int) -> int:
    """Raises UsageError for what is no priority."""
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > PRIORITY_MAX:
        msg = f"priority={priority!r} must be a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}"
        raise UsageError(msg)
    return priority


def checked_key(key: str | None, name: str) -> str | None:
    """Raises UsageError for what can't be a key. `name` is the parameter's."""
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= NAME_MAX or not key.isprintable():
        msg = f"{name}={key!r} must be a string of 1 to {NAME_MAX} printable characters"
        raise UsageError(msg)
    if is_reserved(key):
        raise UsageError(refusal(key, f"a {name}"))
    return key


def dedup_in(queue: str, dedup: str) -> str:
    """What stands in the database for a dedup in a queue; never what stands for a singleton."""
    return f"queue {queue}\n{dedup}"


def dedup_of(workflow: str) -> str:
    """What stands there for a workflow of which one run may be live."""
    return f"workflow {workflow}"
