"""What happens to the steps that a run's code asks for."""

from __future__ import annotations

import msgspec

from perdure.core.events_base import Fact, Failure


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The mark of an event that a person's decision brought about: who decided, and why, if they said so.

    `since` is when the wait began that they had looked at (`StepParked.at`), if they said so: it is about no other one.
    """

    by: str | None = None
    why: str | None = None
    since: float | None = None


class StepStarted(Fact, frozen=True, tag="step_started"):
    """A note, written only for steps that take long enough to be worth seeing."""

    step: str
    attempt: int


class StepAttemptFailed(Fact, frozen=True, tag="step_attempt_failed"):
    """An attempt failed and another will follow, not before `retry_at` (wall-clock seconds)."""

    step: str
    attempt: int
    failure: Failure
    retry_at: float
    started_at: float


class StepDelayed(Fact, frozen=True, tag="step_delayed"):
    """A step waits for a rate limit, and asks for a permission again at `until` (wall-clock seconds).

    With `failure` an attempt was turned away by the other side because of its rate; that doesn't count as one.
    """

    step: str
    until: float
    limit: str
    failure: Failure | None = None
    started_at: float | None = None


class Overdrawn(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A budget has no money for a step.

    Attributes:
        name, owner, day: its account, see core/budgets.py.
        until: when the step asks again by itself, wall-clock seconds; None = when a person has made room.
    """

    name: str
    owner: str = ""
    day: str = ""
    until: float | None = None


class StepParked(Fact, frozen=True, tag="step_parked"):
    """A note: a step waits for a person's decision.

    `unknown` says that it may or may not have happened, `refused` that a counterfactual run mustn't do it and it was
    never begun; with `budget` there is no money for its next attempt; else its attempts are used up, and `failure` is
    the last.
    """

    step: str
    attempt: int
    started_at: float
    why: str
    unknown: bool = False
    failure: Failure | None = None
    input: bytes | None = None
    fingerprint: bytes | None = None
    refused: bool = False
    budget: Overdrawn | None = None


class StepCompleted(Fact, frozen=True, tag="step_completed"):
    """A step's result. Small inputs are kept as `input`, larger ones only as their `fingerprint`."""

    step: str
    attempt: int
    started_at: float
    result: bytes
    input: bytes | None = None
    fingerprint: bytes | None = None
    decision: Decision | None = None  #: a person gave the result of a step that waited for one
    reused: bool = False  #: copied from the run that this one retries or forks
    stubbed: bool = False  #: it was never done, since it would act and the run is counterfactual


class StepFailed(Fact, frozen=True, tag="step_failed"):
    """A step failed for good after `attempt` attempts."""

    step: str
    attempt: int
    started_at: float
    failure: Failure
    input: bytes | None = None
    fingerprint: bytes | None = None
    decision: Decision | None = None  #: a person let a step fail that waited for one
    reused: bool = False  #: copied from the run that this one retries or forks


class StepSent(Fact, frozen=True, tag="step_sent"):
    """A note: an attempt was sent to a queue. Its *errand*, a run of its own, was created in the same transaction."""

    step: str
    attempt: int
    queue: str
    run: str  #: the errand's id
    fingerprint: bytes | None = None  #: of the input that was sent


class ErrandEnded(Fact, frozen=True, tag="errand_ended"):
    """What came of an attempt that was sent to a queue. It comes by mail, and no history holds it.

    What becomes of the step is decided by whoever drives its run: a result, another attempt, a failure.
    """

    step: str
    run: str  #: the errand's id
    attempt: int
    started_at: float
    result: bytes | None = None
    failure: Failure | None = None
    kinds: tuple[str, ...] = ()  #: names of the exception's class and its bases, in order of resolution
    http_status: int | None = None  #: that the exception carries
    retry_after: float | None = None  #: seconds that a server asked to wait
    doubt: str | None = None  #: why nobody knows whether it happened
    gives_up: bool = False  #: it didn't begin and won't: no attempt follows
    emitted: bool = False  #: it has put items into streams
    detail: bytes | None = None  #: what its newest heartbeat told
    detail_at: float = 0.0


class StepRerun(Fact, frozen=True, tag="step_rerun"):
    """A person decided that a step which waits for one is to be attempted again, from its first attempt on.

    With `raised` somebody has made room in the budget for which it waits, and it goes on where it stood.
    """

    step: str
    decision: Decision | None = None
    raised: bool = False
    started_at: float | None = None  #: when the attempt began that it is about; histories of before don't say
