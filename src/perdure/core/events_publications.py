"""What a run has to do with publications: events that are published to whoever wants them."""

from __future__ import annotations

import msgspec

from perdure.core.events_base import Fact, Record


class Heard(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a run has had of publications when it began.

    Attributes:
        since: those published from this moment on are for the run, unless it says otherwise.
        numbers: by subscription (see core/listening.py) the number of the last one that its earlier generations got.
        event: name of the event that started it, as a subscription of its workflow.
    """

    since: float
    numbers: dict[str, int] = {}
    event: str | None = None


class PublicationAwaited(Record, frozen=True, tag="publication_awaited"):
    """The code waits for the next publication of this name that fits. `op` is that of the wait.

    It is written again under the same id when one came that couldn't be read.
    """

    name: str
    where: str = ""  #: as of core/where.py
    since: float = 0.0  #: it was published at this moment or later
    after: int = 0  #: it has a higher number
    timeout: float | None = None  #: seconds from `at`
    reused: bool = False  #: copied from the run that this one retries or forks


class PublicationArrived(Fact, frozen=True, tag="publication_arrived"):
    """There is a publication for a wait of the code's."""

    wait: str
    name: str
    number: int  #: its place in the order of all publications
    published_at: float
    payload: bytes | None = None
    key: str | None = None
    unread: str | None = None  #: why it couldn't be read as the code expects; then the wait goes on
    reused: bool = False  #: copied from the run that this one retries or forks


class PublicationGivenUp(Record, frozen=True, tag="publication_given_up"):
    """The code waits no more: it was cancelled, or the time was over. `op` is that of the wait."""


class Published(Record, frozen=True, tag="published"):
    """The code published something, in the transaction that wrote this."""

    name: str
    key: str | None = None
    payload: bytes | None = None
    fingerprint: bytes | None = None  #: of a payload too large to be kept here
    withheld: bool = False  #: it wasn't published, since the run is counterfactual
