"""What a run hears and says: messages, updates, the items of its streams."""

from __future__ import annotations

from perdure.core.events_base import Fact, Failure, Record


class MessageReceived(Fact, frozen=True, tag="message_received"):
    """A message from outside, or from another run. The number of this event is the message's own."""

    name: str
    payload: bytes
    key: str | None = None  #: what makes a repeated send recognisable
    sender: str | None = None  #: the run that sent it
    reused: bool = False  #: copied from the run that this one retries or forks


class MessageSetAside(Record, frozen=True, tag="message_set_aside"):
    """A message couldn't be read as what the code expects; the code never saw it. `op` is `message:NUMBER`."""

    why: str


class MessageAwaited(Fact, frozen=True, tag="message_awaited"):
    """A note: the code waits for a message of this name."""

    receive: str
    name: str


class MessageSent(Fact, frozen=True, tag="message_sent"):
    """The code sent a message to another run; it was delivered in the transaction that wrote this."""

    message: str
    run: str
    name: str
    payload: bytes | None = None
    fingerprint: bytes | None = None
    reused: bool = False  #: copied from the run that this one retries or forks
    withheld: bool = False  #: it wasn't delivered, since the run is counterfactual


class MessageRefused(Fact, frozen=True, tag="message_refused"):
    """A message of the code's couldn't be delivered: `why` is "unknown_run", "run_ended" or "inbox_full"."""

    message: str
    run: str
    name: str
    why: str
    reused: bool = False  #: copied from the run that this one retries or forks


class UpdateAccepted(Fact, frozen=True, tag="update_accepted"):
    """A call of an update handler that its validator let pass: the handler begins."""

    update: str
    name: str
    input: bytes
    reused: bool = False  #: copied from the run that this one retries or forks


class UpdateCompleted(Record, frozen=True, tag="update_completed"):
    """An update's handler ended. `op` is the update's id."""

    result: bytes | None = None
    failure: Failure | None = None


class Emitted(Record, frozen=True, tag="emitted"):
    """The code put an item into one of the run's streams."""

    stream: str
    item: bytes
