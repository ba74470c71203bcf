"""What happens to a run as a whole, from its start on, until it comes to its end (events_endings.py)."""

from __future__ import annotations

from perdure.core.donor import Donor
from perdure.core.events_base import Fact, Record
from perdure.core.events_publications import Heard
from perdure.core.tracing import TraceContext


class RunStarted(Fact, frozen=True, tag="run_started"):
    """Always the first event. `seed` feeds the run's random numbers, and is the key to its callbacks' tokens."""

    workflow: str
    input: bytes
    seed: bytes
    parent: str | None = None  #: the parent's run id
    parent_op: str | None = None  #: the op id under which the parent started it
    deadline: float | None = None  #: wall-clock time at which the run is cancelled as timed out
    schedule: str | None = None  #: the schedule that started it
    slot: float | None = None  #: the moment for which the schedule started it
    attributes: bytes | None = None  #: a JSON object, as in AttributesSet
    generation: int = 1  #: which run of its id it is
    keys: int = 1  #: the generation by which its steps' idempotency keys are made
    donor: Donor | None = None  #: the run that this one retries or forks
    heard: Heard | None = None  #: of what was published: what started it, what former generations have got
    trace: TraceContext | None = None  #: where whoever asked for it stands in a trace
    keys_of: str | None = (
        None  #: the id by which those keys are made, if another one: of the child that it retries
    )


class RunRecovered(Fact, frozen=True, tag="run_recovered"):
    """A note: another worker, or the same one after a pause, took the run up again."""

    worker: str
    epoch: int
    version: str = ""  #: of the worker's code, if it has one


class RunPaused(Fact, frozen=True, tag="run_paused"):
    """The run begins nothing new until it is resumed."""

    reason: str | None = None


class RunResumed(Fact, frozen=True, tag="run_resumed"):
    """The run goes on after a pause."""


class AttributesSet(Record, frozen=True, tag="attributes_set"):
    """The run's searchable attributes changed. `values` is a JSON object; null removes one.

    An empty `op` says that they were set from outside; the code knows nothing of it.
    """

    values: bytes


class Patched(Record, frozen=True, tag="patched"):
    """The code took the new branch of `patched(...)`. `op` is `patch:` and the change's id."""


class Checkpointed(Record, frozen=True, tag="checkpointed"):
    """All that happened before is summed up in `state`: a replay may begin here."""

    state: bytes
    seed: bytes = b""  #: feeds random numbers from here on
