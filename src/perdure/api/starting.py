"""What starting a run means when there is one with its id already."""

from __future__ import annotations

from perdure.api.handle import ended_error
from perdure.errors import RunConflictError
from perdure.storage.records import Created, Delivery, NewRun


def check_met(item: NewRun, met: Created, if_exists: str) -> None:
    """A start has met a run that has its id: make sure that it may mean that one.

    Raises:
        RunConflictError: it may not.
        RunEndedError: it may, but that run has ended, and the start's messages were for a live one.
    """
    row = met.row
    if if_exists == "fail":
        msg = f'run {item.id!r} exists already ({row.status}), and if_exists="fail" was given'
    elif row.workflow != item.workflow:
        msg = f"the id {item.id!r} belongs to a run of {row.workflow}, not of {item.workflow}: use another id"
    elif row.fingerprint != item.fingerprint:
        msg = (
            f"run {item.id!r} was started with other input: use another id, or engine.get(id) for the old one"
        )
    elif met.delivery is Delivery.RUN_ENDED:
        raise ended_error(item.id, "the messages that came with the start weren't")
    else:
        return
    raise RunConflictError(msg)
